package com.github.prtwatch.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** Splits the messages of diagnostic settings into sign-ins, keyed by user. */
final class Split implements Processor<byte[], byte[], byte[], byte[]> {
  private static final String CATEGORY = "NonInteractiveUserSignInLogs";
  private static final int MAX_FUTURE_MS = 15 * 60 * 1000;

  private final JsonFactory json = new JsonFactory();
  private final byte[] buffer = new byte[SignIn.MOST];
  private final String[] texts = new String[SignIn.TEXTS];
  private ProcessorContext<byte[], byte[]> context;

  // Of the record that is being read.
  private String category;
  private String result;
  private String callerIP;
  private boolean multifactor;

  @Override
  public void init(ProcessorContext<byte[], byte[]> context) {
    this.context = context;
  }

  @Override
  public void process(Record<byte[], byte[]> message) {
    try (JsonParser p = json.createParser(message.value())) {
      expect(p.nextToken() == JsonToken.START_OBJECT);
      while (p.nextToken() == JsonToken.FIELD_NAME) {
        boolean records = p.currentName().equals("records");
        JsonToken value = p.nextToken();
        if (!records || value != JsonToken.START_ARRAY) {
          p.skipChildren();
          continue;
        }
        while (p.nextToken() == JsonToken.START_OBJECT) {
          record(p);
          emit(message);
        }
      }
    } catch (IOException | IndexOutOfBoundsException | java.time.DateTimeException e) {
      // prtwatch writes what it cannot read to a topic of its own; here a line must do.
      System.err.println("unreadable message: " + e.getMessage());
    }
  }

  private static void expect(boolean is) throws IOException {
    if (!is) {
      throw new IOException("it is no envelope");
    }
  }

  /** Reads one record, of which the parser has the opening bracket. */
  private void record(JsonParser p) throws IOException {
    Arrays.fill(texts, null);
    category = result = callerIP = null;
    multifactor = false;
    while (p.nextToken() == JsonToken.FIELD_NAME) {
      String name = p.currentName();
      JsonToken value = p.nextToken();
      switch (name) {
        case "time" -> texts[SignIn.TIME] = text(p, value);
        case "category" -> category = text(p, value);
        case "tenantId" -> texts[SignIn.TENANT_ID] = text(p, value);
        case "resultType" -> result = text(p, value);
        case "callerIpAddress" -> callerIP = text(p, value);
        case "properties" -> {
          if (value == JsonToken.START_OBJECT) {
            properties(p);
          } else {
            p.skipChildren();
          }
        }
        default -> p.skipChildren();
      }
    }
  }

  private void properties(JsonParser p) throws IOException {
    while (p.nextToken() == JsonToken.FIELD_NAME) {
      String name = p.currentName();
      JsonToken value = p.nextToken();
      switch (name) {
        case "id" -> texts[SignIn.ID] = text(p, value);
        case "userPrincipalName" -> texts[SignIn.UPN] = text(p, value);
        case "userId" -> texts[SignIn.USER_ID] = text(p, value);
        case "ipAddress" -> texts[SignIn.IP] = text(p, value);
        case "autonomousSystemNumber" -> texts[SignIn.ASN] = text(p, value);
        case "resourceDisplayName" -> texts[SignIn.RESOURCE_NAME] = text(p, value);
        case "resourceId" -> texts[SignIn.RESOURCE_ID] = text(p, value);
        case "appDisplayName" -> texts[SignIn.APP_NAME] = text(p, value);
        case "appId" -> texts[SignIn.APP_ID] = text(p, value);
        case "userAgent" -> texts[SignIn.USER_AGENT] = text(p, value);
        case "correlationId" -> texts[SignIn.CORRELATION_ID] = text(p, value);
        case "sessionId" -> texts[SignIn.SESSION_ID] = text(p, value);
        case "uniqueTokenIdentifier" -> texts[SignIn.TOKEN_ID] = text(p, value);
        case "incomingTokenType" -> texts[SignIn.INCOMING_TOKEN] = text(p, value);
        case "authenticationDetails" -> details(p, value);
        case "location" -> {
          if (value == JsonToken.START_OBJECT) {
            location(p);
          } else {
            p.skipChildren();
          }
        }
        case "deviceDetail" -> {
          if (value == JsonToken.START_OBJECT) {
            device(p);
          } else {
            p.skipChildren();
          }
        }
        default -> p.skipChildren();
      }
    }
  }

  private void location(JsonParser p) throws IOException {
    while (p.nextToken() == JsonToken.FIELD_NAME) {
      boolean country = p.currentName().equals("countryOrRegion");
      JsonToken value = p.nextToken();
      if (country) {
        texts[SignIn.COUNTRY] = text(p, value);
      } else {
        p.skipChildren();
      }
    }
  }

  private void device(JsonParser p) throws IOException {
    while (p.nextToken() == JsonToken.FIELD_NAME) {
      String name = p.currentName();
      JsonToken value = p.nextToken();
      switch (name) {
        case "deviceId" -> texts[SignIn.DEVICE_ID] = text(p, value);
        case "displayName" -> texts[SignIn.DEVICE_NAME] = text(p, value);
        case "isManaged" -> texts[SignIn.MANAGED] = text(p, value);
        case "isCompliant" -> texts[SignIn.COMPLIANT] = text(p, value);
        default -> p.skipChildren();
      }
    }
  }

  /** Looks for the term in every text of the value: what is between texts bounds it anyway. */
  private void details(JsonParser p, JsonToken value) throws IOException {
    int depth = 0;
    for (JsonToken t = value; ; t = p.nextToken()) {
      if (t == null) {
        throw new IOException("the message does not end");
      } else if (t.isStructStart()) {
        depth++;
      } else if (t.isStructEnd()) {
        depth--;
      } else if (t == JsonToken.VALUE_STRING || t == JsonToken.FIELD_NAME) {
        multifactor |= Rule.has(p.getText(), "multifactor");
      }
      if (depth == 0) {
        return;
      }
    }
  }

  private static String text(JsonParser p, JsonToken value) throws IOException {
    if (value.isScalarValue()) {
      return value == JsonToken.VALUE_NULL ? null : p.getText();
    }
    p.skipChildren();
    return null;
  }

  private void emit(Record<byte[], byte[]> message) {
    if (category != null && !category.equals(CATEGORY)) {
      return;
    }
    if (texts[SignIn.ID] == null || texts[SignIn.TIME] == null) {
      System.err.println("unreadable record: it has no id or no time");
      return;
    }
    String ip = texts[SignIn.IP];
    if (ip == null || ip.isEmpty()) {
      ip = callerIP == null ? "" : callerIP;
    }
    texts[SignIn.IP] = ip;
    String resource = texts[SignIn.RESOURCE_NAME];
    boolean candidate =
        "0".equals(result) && !multifactor && resource != null && Rule.dottedQuad(ip) && Rule.resource(resource);
    int hour = Rule.hour(texts[SignIn.TIME]);
    long latest = message.timestamp() + MAX_FUTURE_MS;
    if ((hour - 1) * 3_600_000L > latest) {
      hour = (int) -Math.floorDiv(-message.timestamp(), 3_600_000L);
    }
    String upn = texts[SignIn.UPN] == null ? "" : texts[SignIn.UPN];
    byte[] user = upn.toLowerCase(Locale.ROOT).getBytes(StandardCharsets.UTF_8);
    context.forward(
        message.withKey(user).withValue(SignIn.encode(buffer, hour, candidate, texts)));
  }
}
