package com.github.prtwatch.bench;

import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.TopicConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.state.Stores;

/**
 * The rule of prtwatch (preset kql) as a Kafka Streams application: an export's messages are split
 * and repartitioned by user, and each sign-in is judged against its user's profile in RocksDB.
 * README.md says what was tuned. Arguments are key=value; those that begin with "streams." are
 * settings of Kafka Streams and overrule what is set here.
 */
public final class Main {
  private Main() {}

  public static void main(String[] args) throws InterruptedException {
    Properties given = new Properties();
    for (String arg : args) {
      String[] parts = arg.split("=", 2);
      if (parts.length != 2) {
        System.err.println(arg + ": is not key=value");
        System.exit(2);
      }
      given.setProperty(parts[0], parts[1]);
    }
    KafkaStreams streams = new KafkaStreams(topology(given).build(), settings(given));
    streams.setUncaughtExceptionHandler(
        e -> {
          e.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    CountDownLatch ended = new CountDownLatch(1);
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
            ended.countDown();
          }
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    ended.await();
    if (streams.state() == KafkaStreams.State.ERROR) {
      // Not exit: the hook would wait for what is in error.
      Runtime.getRuntime().halt(1);
    }
  }

  private static String need(Properties given, String key) {
    String value = given.getProperty(key);
    if (value == null) {
      System.err.println(key + ": is missing; give " + key + "=...");
      System.exit(2);
    }
    return value;
  }

  private static StreamsBuilder topology(Properties given) {
    StreamsBuilder builder = new StreamsBuilder();
    Serde<byte[]> bytes = Serdes.ByteArray();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(Judge.PROFILES), bytes, bytes)
            .withCachingEnabled()
            .withLoggingEnabled(Map.of()));
    builder.stream(need(given, "input"), Consumed.with(bytes, bytes))
        .process(Split::new)
        .repartition(
            Repartitioned.with(bytes, bytes)
                .withName("sign-ins")
                .withNumberOfPartitions(Integer.parseInt(need(given, "partitions"))))
        .process(Judge::new, Judge.PROFILES)
        .to(need(given, "output"), Produced.with(bytes, bytes));
    return builder;
  }

  private static Properties settings(Properties given) {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, need(given, "application"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, need(given, "brokers"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, need(given, "state"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    p.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);

    // A commit writes the cached profiles to RocksDB and to the changelog, and ends a transaction:
    // the default of 100 ms does that ten times as often.
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
    p.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Rocks.class);

    // A record of the input is a message of some 50 sign-ins: as many records as by default would
    // be hundreds of megabytes, and hours of one partition before the first of the next.
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 1000);
    p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 1000);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 1);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), 1 << 20);

    p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L << 20);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    p.put(StreamsConfig.producerPrefix(ProducerConfig.SEND_BUFFER_CONFIG), 1 << 20);

    // Metrics of each record cost more than they tell here.
    p.put(StreamsConfig.METRICS_RECORDING_LEVEL_CONFIG, "INFO");
    p.put(StreamsConfig.topicPrefix(TopicConfig.SEGMENT_BYTES_CONFIG), 256 << 20);
    for (String key : given.stringPropertyNames()) {
      if (key.startsWith("streams.")) {
        p.put(key.substring("streams.".length()), given.getProperty(key));
      }
    }
    return p;
  }
}
