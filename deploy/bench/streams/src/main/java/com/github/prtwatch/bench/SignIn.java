package com.github.prtwatch.bench;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * What of a sign-in is repartitioned: the hour that it counts at, whether it could alert, and
 * texts. As bytes: the hour (4), the candidate flag (1), then each text with its length (2)
 * before it, in the order of the constants. A text that is absent is empty.
 */
final class SignIn {
  static final int IP = 0;
  static final int ASN = 1;
  static final int TIME = 2;
  static final int ID = 3;
  static final int UPN = 4;
  static final int USER_ID = 5;
  static final int TENANT_ID = 6;
  static final int COUNTRY = 7;
  static final int RESOURCE_NAME = 8;
  static final int RESOURCE_ID = 9;
  static final int APP_NAME = 10;
  static final int APP_ID = 11;
  static final int USER_AGENT = 12;
  static final int CORRELATION_ID = 13;
  static final int SESSION_ID = 14;
  static final int TOKEN_ID = 15;
  static final int INCOMING_TOKEN = 16;
  static final int DEVICE_ID = 17;
  static final int DEVICE_NAME = 18;
  static final int MANAGED = 19;
  static final int COMPLIANT = 20;
  static final int TEXTS = 21;

  private static final int HEAD = 5;

  private SignIn() {}

  /** Encodes; buffer is for reuse, and large enough for any sign-in that fits a message. */
  static byte[] encode(byte[] buffer, int hour, boolean candidate, String[] texts) {
    buffer[0] = (byte) (hour >>> 24);
    buffer[1] = (byte) (hour >>> 16);
    buffer[2] = (byte) (hour >>> 8);
    buffer[3] = (byte) hour;
    buffer[4] = (byte) (candidate ? 1 : 0);
    int at = HEAD;
    for (String text : texts) {
      byte[] b = text == null ? EMPTY : text.getBytes(StandardCharsets.UTF_8);
      int length = Math.min(b.length, 1 << 10);
      buffer[at++] = (byte) (length >>> 8);
      buffer[at++] = (byte) length;
      System.arraycopy(b, 0, buffer, at, length);
      at += length;
    }
    return Arrays.copyOf(buffer, at);
  }

  static final int MOST = HEAD + TEXTS * (2 + (1 << 10));
  private static final byte[] EMPTY = {};

  static int hour(byte[] value) {
    return (value[0] & 0xff) << 24 | (value[1] & 0xff) << 16 | (value[2] & 0xff) << 8 | value[3] & 0xff;
  }

  static boolean candidate(byte[] value) {
    return value[4] != 0;
  }

  /** Where the length of the first text is. */
  static int first() {
    return HEAD;
  }

  static int length(byte[] value, int at) {
    return (value[at] & 0xff) << 8 | value[at + 1] & 0xff;
  }

  static String[] texts(byte[] value) {
    String[] texts = new String[TEXTS];
    int at = HEAD;
    for (int i = 0; i < TEXTS; i++) {
      int length = length(value, at);
      texts[i] = new String(value, at + 2, length, StandardCharsets.UTF_8);
      at += 2 + length;
    }
    return texts;
  }
}
