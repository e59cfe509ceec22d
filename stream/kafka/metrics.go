package kafka

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// Metrics returns the hook that counts what all clients of one cluster do: connections,
// errors, bytes, and the bytes of records a topic; prtwatch_kafka_... with the label
// cluster. Make it once a cluster and give it to Options.
//
// kprom counts for one client and panics at the second: it registers its metrics for each.
// Ours are registered for the first and count for all.
func Metrics(reg prometheus.Registerer, cluster string) kgo.Hook {
	return &metrics{Metrics: kprom.NewMetrics("prtwatch",
		kprom.Subsystem("kafka"),
		kprom.Registerer(withoutGauges{reg}),
		kprom.WithStaticLabel(prometheus.Labels{"cluster": cluster}))}
}

// DeadLetters returns the counter of what a stage wrote to the dead-letter topic and the brokers acknowledged;
// prtwatch_dead_letters_total with the label stage. Make it once a stage.
func DeadLetters(reg prometheus.Registerer, stage string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "prtwatch_dead_letters_total", Help: "Records that the dead-letter topic has taken, by the stage that could not read them.",
		ConstLabels: prometheus.Labels{"stage": stage},
	})
	reg.MustRegister(c)
	return c
}

type metrics struct {
	*kprom.Metrics
	once sync.Once
}

// OnNewClient registers the metrics, the first time.
func (m *metrics) OnNewClient(cl *kgo.Client) { m.once.Do(func() { m.Metrics.OnNewClient(cl) }) }

// OnClientClosed keeps what was counted: clients come and go under a process.
func (m *metrics) OnClientClosed(*kgo.Client) {}

// withoutGauges leaves out the four gauges that look inside one client: of many they would
// show the first, which may be long closed.
type withoutGauges struct{ prometheus.Registerer }

func (r withoutGauges) Register(c prometheus.Collector) error {
	if _, gauge := c.(prometheus.GaugeFunc); gauge {
		return nil
	}
	return r.Registerer.Register(c)
}

func (r withoutGauges) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}
