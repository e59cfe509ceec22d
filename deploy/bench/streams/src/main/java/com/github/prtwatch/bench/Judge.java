package com.github.prtwatch.bench;

import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Judges each sign-in against its user's profile, and then teaches it to the profile. */
final class Judge implements Processor<byte[], byte[], byte[], byte[]> {
  static final String PROFILES = "profiles";

  private final Profile profile = new Profile();
  private final Alert alert = new Alert();
  private ProcessorContext<byte[], byte[]> context;
  private KeyValueStore<byte[], byte[]> profiles;

  @Override
  public void init(ProcessorContext<byte[], byte[]> context) {
    this.context = context;
    this.profiles = context.getStateStore(PROFILES);
  }

  @Override
  public void process(Record<byte[], byte[]> signIn) {
    byte[] value = signIn.value();
    profile.reset(profiles.get(signIn.key()));
    int hour = SignIn.hour(value);
    int ip = SignIn.first() + 2;
    int ipLength = SignIn.length(value, ip - 2);
    int asn = ip + ipLength + 2;
    int asnLength = SignIn.length(value, asn - 2);
    int from = hour - Rule.WINDOW;
    int to = hour - 1;
    if (SignIn.candidate(value)
        && !profile.known(Profile.IP, value, ip, ipLength, from, to)
        && !profile.known(Profile.ASN, value, asn, asnLength, from, to)) {
      String[] texts = SignIn.texts(value);
      byte[] id = Alert.id(texts[SignIn.ID]);
      if (!profile.alerted(id)) {
        context.forward(signIn.withValue(alert.json(id, texts, profile.counts(from, to))));
        profile.see(Profile.ALERT, id, 0, id.length, hour);
      }
    }
    profile.see(Profile.IP, value, ip, ipLength, hour);
    profile.see(Profile.ASN, value, asn, asnLength, hour);
    // Most sign-ins come from a network that their user has used in this hour already.
    if (profile.changed()) {
      profiles.put(signIn.key(), profile.bytes());
    }
  }
}
