package com.github.prtwatch.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.Arrays;
import java.util.UUID;

/** Writes alerts with the fields of prtwatch's (detector/alert.schema.json). */
final class Alert {
  private final JsonFactory json = new JsonFactory();

  /** The alert's id: the version 5 UUID of the sign-in's id in the rule's name space. */
  static byte[] id(String signIn) {
    try {
      MessageDigest sha1 = MessageDigest.getInstance("SHA-1");
      UUID rule = UUID.fromString(Rule.ID);
      sha1.update(
          ByteBuffer.allocate(16).putLong(rule.getMostSignificantBits()).putLong(rule.getLeastSignificantBits()).array());
      byte[] id = Arrays.copyOf(sha1.digest(signIn.getBytes(StandardCharsets.UTF_8)), 16);
      id[6] = (byte) (id[6] & 0x0f | 0x50);
      id[8] = (byte) (id[8] & 0x3f | 0x80);
      return id;
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  byte[] json(byte[] id, String[] t, Profile.Counts known) {
    ByteArrayOutputStream out = new ByteArrayOutputStream(1024);
    try (JsonGenerator g = json.createGenerator(out)) {
      boolean none = known.last() < 0;
      ByteBuffer b = ByteBuffer.wrap(id);
      g.writeStartObject();
      g.writeStringField("schema", "prtwatch.alert/1");
      g.writeStringField("id", new UUID(b.getLong(), b.getLong()).toString());
      g.writeStringField("status", "new");
      g.writeStringField("severity", "high");
      g.writeStringField("reason", none ? "no_baseline" : "new_network");
      g.writeStringField("title", title(t, none));
      g.writeStringField("time", t[SignIn.TIME]);
      rule(g);
      g.writeObjectFieldStart("user");
      text(g, "upn", t[SignIn.UPN]);
      text(g, "id", t[SignIn.USER_ID]);
      text(g, "tenant_id", t[SignIn.TENANT_ID]);
      g.writeEndObject();
      g.writeObjectFieldStart("source");
      g.writeStringField("ip", t[SignIn.IP]);
      if (!t[SignIn.ASN].isEmpty()) {
        g.writeFieldName("asn");
        g.writeNumber(t[SignIn.ASN]);
      }
      text(g, "country", t[SignIn.COUNTRY]);
      g.writeEndObject();
      pair(g, "resource", t[SignIn.RESOURCE_NAME], t[SignIn.RESOURCE_ID]);
      pair(g, "app", t[SignIn.APP_NAME], t[SignIn.APP_ID]);
      text(g, "user_agent", t[SignIn.USER_AGENT]);
      g.writeObjectFieldStart("sign_in");
      g.writeStringField("id", t[SignIn.ID]);
      text(g, "correlation_id", t[SignIn.CORRELATION_ID]);
      text(g, "session_id", t[SignIn.SESSION_ID]);
      text(g, "unique_token_identifier", t[SignIn.TOKEN_ID]);
      text(g, "incoming_token_type", t[SignIn.INCOMING_TOKEN]);
      g.writeEndObject();
      g.writeObjectFieldStart("device");
      text(g, "id", t[SignIn.DEVICE_ID]);
      text(g, "name", t[SignIn.DEVICE_NAME]);
      truth(g, "managed", t[SignIn.MANAGED]);
      truth(g, "compliant", t[SignIn.COMPLIANT]);
      g.writeEndObject();
      g.writeObjectFieldStart("baseline");
      g.writeNumberField("ips", known.ips());
      g.writeNumberField("asns", known.asns());
      if (!none) {
        g.writeStringField("first_hour", Instant.ofEpochSecond(known.first() * 3600L).toString());
        g.writeStringField("last_hour", Instant.ofEpochSecond(known.last() * 3600L).toString());
      }
      g.writeEndObject();
      g.writeEndObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return out.toByteArray();
  }

  private static void rule(JsonGenerator g) throws IOException {
    g.writeObjectFieldStart("rule");
    g.writeStringField("id", Rule.ID);
    g.writeStringField("name", Rule.NAME);
    g.writeStringField("version", Rule.VERSION);
    g.writeStringField("preset", "kql");
    g.writeArrayFieldStart("tactics");
    g.writeString("CredentialAccess");
    g.writeString("LateralMovement");
    g.writeEndArray();
    g.writeArrayFieldStart("techniques");
    g.writeString("T1528");
    g.writeString("T1550.001");
    g.writeEndArray();
    g.writeEndObject();
  }

  private static String title(String[] t, boolean none) {
    StringBuilder b = new StringBuilder();
    b.append(t[SignIn.UPN]).append(" used a token on ").append(t[SignIn.RESOURCE_NAME]);
    b.append(" from ").append(t[SignIn.IP]);
    b.append(" (AS").append(t[SignIn.ASN]).append(", ").append(t[SignIn.COUNTRY]).append(')');
    return b.append(
            none
                ? " without MFA: no sign-in of this user is known from the 14 days before"
                : " without MFA: neither address nor network was seen of this user in the 14 days before")
        .toString();
  }

  private static void pair(JsonGenerator g, String name, String text, String id) throws IOException {
    g.writeObjectFieldStart(name);
    text(g, "name", text);
    text(g, "id", id);
    g.writeEndObject();
  }

  private static void text(JsonGenerator g, String name, String text) throws IOException {
    if (!text.isEmpty()) {
      g.writeStringField(name, text);
    }
  }

  private static void truth(JsonGenerator g, String name, String text) throws IOException {
    if (!text.isEmpty()) {
      g.writeBooleanField(name, text.equals("true"));
    }
  }
}
