package kafka_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

func TestEveryProblemOfAClusterIsNamedAtOnce(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, nil)
	hubs := []string{"contoso.servicebus.windows.net:9093"}
	for name, test := range map[string]struct {
		cluster kafka.Cluster
		want    []string // how each line begins
	}{
		"default":       {kafka.DefaultCluster(), nil},
		"no brokers":    {kafka.Cluster{}, []string{"input.brokers: empty: "}},
		"no port":       {kafka.Cluster{Brokers: []string{"kafka-1.example.com"}}, []string{`input.brokers: "kafka-1.example.com": write it as host:port`}},
		"a URL":         {kafka.Cluster{Brokers: []string{"https://kafka:9092"}}, []string{`input.brokers: "https://kafka:9092": write it as host:port`}},
		"no such port":  {kafka.Cluster{Brokers: []string{"[2001:db8::1]:9092", "b:70000"}}, []string{`input.brokers: "b:70000": the port must be`}},
		"unused TLS":    {kafka.Cluster{Brokers: []string{"b:1"}, TLS: kafka.TLS{CAFile: "ca.pem"}}, []string{"input.tls.ca_file: ca.pem: TLS is off"}},
		"half a pair":   {kafka.Cluster{Brokers: []string{"b:1"}, TLS: kafka.TLS{Enabled: true, CertFile: "c.pem"}}, []string{`input.tls.key_file: "": `}},
		"no CA":         {kafka.Cluster{Brokers: []string{"b:1"}, TLS: kafka.TLS{Enabled: true, CAFile: "/nowhere/ca.pem"}}, []string{"input.tls.ca_file: /nowhere/ca.pem: "}},
		"an empty CA":   {kafka.Cluster{Brokers: []string{"b:1"}, TLS: kafka.TLS{Enabled: true, CAFile: empty}}, []string{"input.tls.ca_file: " + empty + ": there is no PEM"}},
		"bad mechanism": {kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "plain"}}, []string{`input.sasl.mechanism: "plain": use PLAIN`}},
		"SASL is off":   {kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{User: "u"}}, []string{`input.sasl.mechanism: "": SASL is off`}},
		"OAUTHBEARER":   {kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "OAUTHBEARER"}}, []string{`input.sasl.token_url: "": `, `input.sasl.user: "": `, `input.sasl.password: "": `}},
		"no login":      {kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "PLAIN"}}, []string{`input.sasl.user: "": `, `input.sasl.password: "": `}},
		"an endpoint that is not asked": {
			kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "PLAIN", User: "u", Password: password, TokenCAFile: "ca.pem"}},
			[]string{"input.sasl.token_ca_file: ca.pem: it belongs to OAUTHBEARER"},
		},
		"two passwords": {
			kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "PLAIN", User: "u", Password: password, PasswordFile: empty}},
			[]string{"input.sasl.password_file: " + empty + ": there is a password too"},
		},
		"an empty password file": {
			kafka.Cluster{Brokers: []string{"b:1"}, SASL: kafka.SASL{Mechanism: "PLAIN", User: "u", PasswordFile: empty}},
			[]string{"input.sasl.password_file: " + empty + ": it is empty"},
		},
		"Event Hubs in the clear": {kafka.Cluster{Brokers: hubs}, []string{"input.tls.enabled: false: ", `input.sasl.mechanism: "": `}},
		"Event Hubs on AMQP": {
			kafka.Cluster{
				Brokers: []string{"contoso.servicebus.windows.net:5671"}, TLS: kafka.TLS{Enabled: true},
				SASL: kafka.SASL{Mechanism: "PLAIN", User: "$ConnectionString", Password: password},
			},
			[]string{`input.brokers: "contoso.servicebus.windows.net:5671": Event Hubs speaks Kafka on port 9093`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			if err := test.cluster.Validate("input"); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) || strings.Contains(got[i], password) {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

func TestClientsOfEventHubsAreSetAsItWants(t *testing.T) {
	c := kafka.Cluster{
		Brokers: []string{"Contoso.ServiceBus.Windows.net:9093"}, TLS: kafka.TLS{Enabled: true},
		SASL: kafka.SASL{Mechanism: "PLAIN", User: "$ConnectionString", Password: password},
	}
	if err := c.Validate("input"); err != nil || !c.EventHubs() {
		t.Fatalf("%v, Event Hubs: %v", err, c.EventHubs())
	}
	cl := client(t, c)
	if age := cl.OptValue(kgo.MetadataMaxAge).(time.Duration); age >= 240*time.Second {
		t.Errorf("metadata age %v", age)
	}
	if idle := cl.OptValue(kgo.ConnIdleTimeout).(time.Duration); idle >= 240*time.Second {
		t.Errorf("idle timeout %v", idle)
	}
	if codecs := cl.OptValue(kgo.ProducerBatchCompression).([]kgo.CompressionCodec); len(codecs) != 0 {
		t.Errorf("compression %v", codecs)
	}
	if size := cl.OptValue(kgo.BrokerMaxWriteBytes).(int32); size >= 1_046_528 {
		t.Errorf("requests of %d bytes", size)
	}

	// And a namespace takes what such a client sends: batches as full as they become.
	n := brokertest.EventHubs(t)
	hub := n.Inside.Name("hub")
	n.Inside.CreateTopic(hub, 1, nil)
	c.TLS.CAFile, c.SASL.Password = n.CAFile(), kafka.Secret(n.ConnectionString())
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	there, err := kgo.NewClient(append(opts, kgo.SeedBrokers(n.Addr()), kgo.ProducerLinger(time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	var records []*kgo.Record
	for range 3000 {
		records = append(records, &kgo.Record{Topic: hub, Value: make([]byte, 1000)})
	}
	if err := there.ProduceSync(limit(t), records...).FirstErr(); err != nil {
		t.Error(err)
	}
	if refused := n.Refused(); refused != nil {
		t.Errorf("the namespace refused %v", refused)
	}
}

func TestClientsComeAndGoUnderOneCount(t *testing.T) {
	b, reg := brokertest.Fake(t), prometheus.NewRegistry()
	c := kafka.Cluster{Brokers: b.Addrs()}
	for _, cluster := range []string{"kafka", "input"} {
		hook := kafka.Metrics(reg, cluster)
		for range 3 {
			cl := client(t, c, hook)
			if err := kafka.Ping(limit(t), cl, cluster, 5*time.Second); err != nil {
				t.Fatal(err)
			}
			cl.Close()
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	connects := make(map[string]float64)
	for _, family := range families {
		if strings.Contains(family.GetName(), "buffered") {
			t.Errorf("%s is about one client of many", family.GetName())
		}
		if family.GetName() == "prtwatch_kafka_connects_total" {
			for _, m := range family.Metric {
				for _, label := range m.Label {
					if label.GetName() == "cluster" {
						connects[label.GetValue()] += m.GetCounter().GetValue()
					}
				}
			}
		}
	}
	if connects["kafka"] < 3 || connects["input"] < 3 {
		t.Errorf("connects %v", connects)
	}
}

func client(t *testing.T, c kafka.Cluster, hooks ...kgo.Hook) *kgo.Client {
	t.Helper()
	opts, err := c.Options(slog.New(slog.DiscardHandler), hooks...)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}
