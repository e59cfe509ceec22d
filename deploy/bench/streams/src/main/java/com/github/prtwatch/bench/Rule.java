package com.github.prtwatch.bench;

import java.time.LocalDate;

/** What the rule asks of a sign-in alone, and how times become hours. */
final class Rule {
  static final String ID = "5a6f1c3e-2a1b-4c9e-9f01-11a2b3c4d508";
  static final String NAME = "Intune - Possible refresh token / PRT reuse accessing Intune resource";
  static final String VERSION = "1.0.0";

  /** The hours of the window, and those kept besides for sign-ins that come late. */
  static final int WINDOW = 335;

  static final int KEPT = WINDOW + 48;

  private static final String[] RESOURCES = {
    "microsoft intune", "microsoft intune api", "device management", "windows 365", "microsoft graph"
  };

  private Rule() {}

  static boolean resource(String name) {
    for (String term : RESOURCES) {
      if (has(name, term)) {
        return true;
      }
    }
    return false;
  }

  /** KQL's has: the term, in any case, with no letter or digit on either side. */
  static boolean has(String text, String term) {
    int last = text.length() - term.length();
    for (int i = 0; i <= last; i++) {
      if (text.regionMatches(true, i, term, 0, term.length())
          && (i == 0 || !Character.isLetterOrDigit(text.charAt(i - 1)))
          && (i == last || !Character.isLetterOrDigit(text.charAt(i + term.length())))) {
        return true;
      }
    }
    return false;
  }

  static boolean dottedQuad(String text) {
    int parts = 0;
    int value = -1;
    for (int i = 0; i <= text.length(); i++) {
      char c = i < text.length() ? text.charAt(i) : '.';
      if (c == '.') {
        if (value < 0 || ++parts > 4) {
          return false;
        }
        value = -1;
      } else if (c < '0' || c > '9' || value == 0) {
        return false;
      } else {
        value = Math.max(value, 0) * 10 + c - '0';
        if (value > 255) {
          return false;
        }
      }
    }
    return parts == 4;
  }

  /** The whole hour at or after a time such as 2026-11-02T00:08:43.2088633Z, in hours since 1970. */
  static int hour(String time) {
    long seconds =
        LocalDate.of(number(time, 0, 4), number(time, 5, 7), number(time, 8, 10)).toEpochDay() * 86400
            + number(time, 11, 13) * 3600L
            + number(time, 14, 16) * 60L
            + number(time, 17, 19);
    int at = 19;
    boolean more = false;
    if (time.charAt(at) == '.') {
      for (at++; at < time.length() && Character.isDigit(time.charAt(at)); at++) {
        more |= time.charAt(at) != '0';
      }
    }
    if (at < time.length() && time.charAt(at) != 'Z') {
      int offset = number(time, at + 1, at + 3) * 3600 + number(time, at + 4, at + 6) * 60;
      seconds -= time.charAt(at) == '-' ? -offset : offset;
    }
    return (int) (Math.floorDiv(seconds, 3600L) + (more || Math.floorMod(seconds, 3600L) != 0 ? 1 : 0));
  }

  private static int number(String text, int from, int to) {
    int n = 0;
    for (int i = from; i < to; i++) {
      n = n * 10 + text.charAt(i) - '0';
    }
    return n;
  }
}
