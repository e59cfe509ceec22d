package com.github.prtwatch.bench;

import java.util.Arrays;

/**
 * What is known of a user, as the bytes that the store holds: judging parses nothing into objects.
 * Entry after entry: kind (1), length of the key (1), key, newest hour (4), length of the bitmap
 * (1), and the bitmap of the hours before the newest, nearest first, without zero bytes at its end.
 */
final class Profile {
  static final byte IP = 0;
  static final byte ASN = 1;
  static final byte ALERT = 2;

  private static final int MOST_IPS = 500;
  private static final int MOST_ASNS = 50;
  private static final int BITMAP = (Rule.KEPT + 7) / 8;

  private byte[] b = {};
  private boolean changed;

  /** Takes what the store has of the user; null is nothing. */
  void reset(byte[] stored) {
    b = stored == null ? new byte[0] : stored;
    changed = false;
  }

  boolean changed() {
    return changed;
  }

  byte[] bytes() {
    return b;
  }

  private static int keyAt(int entry) {
    return entry + 2;
  }

  private int keyLength(int entry) {
    return b[entry + 1] & 0xff;
  }

  private int hourAt(int entry) {
    return entry + 2 + keyLength(entry);
  }

  private int newest(int entry) {
    int at = hourAt(entry);
    return (b[at] & 0xff) << 24 | (b[at + 1] & 0xff) << 16 | (b[at + 2] & 0xff) << 8 | b[at + 3] & 0xff;
  }

  private int bitmapLength(int entry) {
    return b[hourAt(entry) + 4] & 0xff;
  }

  private int next(int entry) {
    return hourAt(entry) + 5 + bitmapLength(entry);
  }

  private int find(byte kind, byte[] from, int at, int length) {
    for (int e = 0; e < b.length; e = next(e)) {
      if (b[e] == kind
          && keyLength(e) == length
          && Arrays.equals(b, keyAt(e), keyAt(e) + length, from, at, at + length)) {
        return e;
      }
    }
    return -1;
  }

  /** The newest hour of the entry within [from, to], or -1. */
  private int within(int entry, int from, int to) {
    int newest = newest(entry);
    if (newest < from) {
      return -1;
    }
    if (newest <= to) {
      return newest;
    }
    int bits = hourAt(entry) + 5;
    int length = bitmapLength(entry) * 8;
    for (int hour = to; hour >= from; hour--) {
      int i = newest - 1 - hour;
      if (i >= length) {
        return -1;
      }
      if ((b[bits + i / 8] & 1 << i % 8) != 0) {
        return hour;
      }
    }
    return -1;
  }

  boolean known(byte kind, byte[] from, int at, int length, int first, int last) {
    int entry = find(kind, from, at, length);
    return entry >= 0 && within(entry, first, last) >= 0;
  }

  boolean alerted(byte[] id) {
    return find(ALERT, id, 0, id.length) >= 0;
  }

  /** What of the user is known in some hours. */
  record Counts(int ips, int asns, int first, int last) {}

  Counts counts(int from, int to) {
    int ips = 0;
    int asns = 0;
    int first = Integer.MAX_VALUE;
    int last = -1;
    for (int e = 0; e < b.length; e = next(e)) {
      int hour = b[e] == ALERT ? -1 : within(e, from, to);
      if (hour < 0) {
        continue;
      }
      if (b[e] == IP) {
        ips++;
      } else {
        asns++;
      }
      last = Math.max(last, hour);
      for (int h = from; h <= hour; h++) {
        if (within(e, h, h) >= 0) {
          first = Math.min(first, h);
          break;
        }
      }
    }
    return new Counts(ips, asns, first, last);
  }

  /** Notes that the network was seen in the hour. */
  void see(byte kind, byte[] from, int at, int length, int hour) {
    length = Math.min(length, 255);
    int entry = find(kind, from, at, length);
    if (entry < 0) {
      forget(hour);
      makeRoom(kind);
      byte[] grown = Arrays.copyOf(b, b.length + 7 + length);
      grown[b.length] = kind;
      grown[b.length + 1] = (byte) length;
      System.arraycopy(from, at, grown, b.length + 2, length);
      putHour(grown, b.length + 2 + length, hour);
      b = grown;
      changed = true;
      return;
    }
    int newest = newest(entry);
    if (hour == newest || hour < newest - Rule.KEPT) {
      return;
    }
    int bits = hourAt(entry) + 5;
    int old = bitmapLength(entry);
    byte[] bitmap = new byte[BITMAP];
    if (hour > newest) {
      int by = hour - newest;
      set(bitmap, by - 1);
      for (int i = 0; i < old * 8; i++) {
        if ((b[bits + i / 8] & 1 << i % 8) != 0) {
          set(bitmap, i + by);
        }
      }
    } else {
      System.arraycopy(b, bits, bitmap, 0, old);
      int i = newest - 1 - hour;
      if ((bitmap[i / 8] & 1 << i % 8) != 0) {
        return;
      }
      set(bitmap, i);
    }
    int size = BITMAP;
    while (size > 0 && bitmap[size - 1] == 0) {
      size--;
    }
    byte[] made = new byte[b.length + size - old];
    System.arraycopy(b, 0, made, 0, bits);
    putHour(made, bits - 5, Math.max(hour, newest));
    made[bits - 1] = (byte) size;
    System.arraycopy(bitmap, 0, made, bits, size);
    System.arraycopy(b, bits + old, made, bits + size, b.length - bits - old);
    b = made;
    changed = true;
  }

  private static void set(byte[] bitmap, int i) {
    if (i < Rule.KEPT) {
      bitmap[i / 8] |= (byte) (1 << i % 8);
    }
  }

  private static void putHour(byte[] to, int at, int hour) {
    to[at] = (byte) (hour >>> 24);
    to[at + 1] = (byte) (hour >>> 16);
    to[at + 2] = (byte) (hour >>> 8);
    to[at + 3] = (byte) hour;
  }

  /** Drops what was last seen before what is kept at the hour. */
  private void forget(int hour) {
    for (int e = 0; e < b.length; ) {
      if (newest(e) < hour - Rule.KEPT) {
        remove(e);
      } else {
        e = next(e);
      }
    }
  }

  /** Drops the network that was unseen for the longest where there are too many. */
  private void makeRoom(byte kind) {
    int count = 0;
    int oldest = -1;
    for (int e = 0; e < b.length; e = next(e)) {
      if (b[e] == kind) {
        count++;
        if (oldest < 0 || newest(e) < newest(oldest)) {
          oldest = e;
        }
      }
    }
    if (count >= (kind == IP ? MOST_IPS : kind == ASN ? MOST_ASNS : 255)) {
      remove(oldest);
    }
  }

  private void remove(int entry) {
    int next = next(entry);
    byte[] made = new byte[b.length - (next - entry)];
    System.arraycopy(b, 0, made, 0, entry);
    System.arraycopy(b, next, made, entry, b.length - next);
    b = made;
    changed = true;
  }
}
