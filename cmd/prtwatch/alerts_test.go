package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// scene is an installation whose instances Prometheus scrapes under a job of their own.
type scene struct {
	*installation
	w   *watcher
	job string
}

// scenes are the causes of the alerts, and the alerts. In each the alerts do not fire before their cause.
var scenes = []struct {
	name   string
	alerts []string
	cause  func(s *scene)
}{
	{"killed again and again, and then for good", []string{"PrtwatchUncleanShutdown", "PrtwatchRestarting", "PrtwatchInstanceDown", "PrtwatchDown"}, (*scene).killed},
	{"Azure sends nothing any more", []string{"PrtwatchInputSilent"}, (*scene).silent},
	{"the input is not read", []string{"PrtwatchSplitBehind"}, (*scene).inputHeld},
	{"the brokers are slow", []string{"PrtwatchDetectBehind", "PrtwatchLate"}, (*scene).slow},
	{"the brokers go away", []string{"PrtwatchKafkaErrors"}, (*scene).away},
	{"no sign-ins can be read", []string{"PrtwatchLagUnknown"}, (*scene).signInsHeld},
	{"the format changes", []string{"PrtwatchDeadLetters", "PrtwatchUnreadable"}, (*scene).unreadable},
	{"the coordinator takes no member", []string{"PrtwatchNobodySplits", "PrtwatchNotReady"}, (*scene).notJoined},
	{"somebody else is in the detecting group", []string{"PrtwatchNobodyJudges"}, (*scene).stranger},
	{"the brokers take no offsets", []string{"PrtwatchTransactionsAborting", "PrtwatchCommitErrors"}, (*scene).refused},
	{"an instance comes and goes", []string{"PrtwatchRebalancing"}, (*scene).restless},
	{"the allowlist is damaged", []string{"PrtwatchAllowlistNotCurrent"}, (*scene).allowlist},
	{"a clock is ahead", []string{"PrtwatchMisdated"}, (*scene).clock},
	{"everybody has a new network", []string{"PrtwatchAlertFlood"}, (*scene).flood},
	{"a zombie writes", []string{"PrtwatchBaselineMended"}, (*scene).zombie},
}

// A real Prometheus with prtwatch's rules, in which a minute is a second, scrapes real instances: none of the
// alerts fires where all is well, and each does when what it is for is done to an instance.
func TestEachAlertFiresWhenItsCauseIsBroughtAbout(t *testing.T) {
	if os.Getenv(watching) == "" {
		t.Skip("set " + watching + "=1")
	}
	w := newWatcher(t)
	t.Run("all is well", func(t *testing.T) { newScene(t, w, "prtwatch-well").well() })
	t.Run("causes", func(t *testing.T) {
		for n, test := range scenes {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, w, fmt.Sprint("prtwatch-", n))
				test.cause(s)
				for _, alert := range test.alerts {
					s.w.fires(s.job, alert)
				}
			})
		}
	})
	caused := map[string]bool{}
	for _, test := range scenes {
		for _, alert := range test.alerts {
			caused[alert] = true
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(hurried(t), -1) {
		if !caused[m[1]] {
			t.Errorf("nothing causes %s", m[1])
		}
	}
}

func newScene(t *testing.T, w *watcher, job string) *scene {
	t.Helper()
	b := brokertest.Fake(t)
	return &scene{installation: newInstallation(t, b), w: &watcher{t: t, url: w.url, targets: w.targets}, job: job}
}

// watched starts an instance that Prometheus scrapes, and waits until it is ready and nothing fires.
func (s *scene) watched(dir string, args ...string) *instance {
	s.t.Helper()
	i := s.start(dir, args...)
	s.w.watch(s.job, i)
	s.shows("prtwatch_ready", 1)
	return i
}

// shows waits until Prometheus has seen a metric of the job with this value.
func (s *scene) shows(metric string, value float64) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("%s to be %v", metric, value), func() bool {
		return len(s.w.query(fmt.Sprintf("%s{job=%q} == %v", metric, s.job, value))) > 0
	})
}

// calm waits until nothing fires: that nothing does without a reason is for all that is well, while here a minute is a second,
// and a dozen starts at once are reason enough.
func (s *scene) calm() {
	s.t.Helper()
	waitFor(s.t, "nothing to fire", func() bool { return len(s.w.firing(s.job)) == 0 })
}

// feed has sign-ins come in the present until it is ended: so many a second, of ten users who are where they always are.
func (s *scene) feed(rate int, at func() time.Time) (end func()) {
	s.t.Helper()
	client := s.b.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			record := made{
				id: fmt.Sprintf("fed-%d", n), user: fmt.Sprintf("u%d@example.com", n%50), ip: "198.51.100.1", asn: "64496", at: at(), fails: true,
			}.record()
			client.Produce(s.t.Context(), &kgo.Record{Topic: s.input, Partition: int32(n % inputPartitions), Value: tenant.Envelope(nil, record)}, nil)
		}
	}()
	end = sync.OnceFunc(func() { close(done); <-ended })
	s.t.Cleanup(end)
	return end
}

// pile puts sign-ins into the input at once.
func (s *scene) pile(n int) {
	s.t.Helper()
	var records []*kgo.Record
	for m := range n / 100 {
		var list [][]byte
		for k := range 100 {
			user := fmt.Sprintf("piled%d@example.com", k)
			list = append(list, made{id: fmt.Sprintf("piled-%d-%d", m, k), user: user, ip: "198.51.100.1", asn: "64496", at: time.Now(), fails: true}.record())
		}
		records = append(records, &kgo.Record{Topic: s.input, Partition: int32(m % inputPartitions), Value: tenant.Envelope(nil, list...)})
	}
	s.b.Produce(records...)
}

// well has an instance do its work for what is three quarters of an hour to Prometheus.
func (s *scene) well() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir(), "--set", "detection.allowlist="+file(s.t, "offices.txt", "192.0.2.0/24\n"))
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if firing := s.w.firing(s.job); len(firing) > 0 {
			s.t.Fatalf("these fire: %v", slices.Sorted(maps.Keys(firing)))
		}
	}
	s.fillsTheDashboard()
}

// fillsTheDashboard wants each query of the dashboard to bring something.
func (s *scene) fillsTheDashboard() {
	s.t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/dashboards/prtwatch.json")
	if err != nil {
		s.t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		s.t.Fatal(err)
	}
	queries := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries++ // of who has no namespace, which is none to Grafana
			expr := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$job", s.job, "$namespace", "", "$instance", ".*").Replace(target.Expr)
			if len(s.w.query(expr)) == 0 {
				s.t.Errorf("panel %q shows nothing for %s", p.Title, expr)
			}
		}
	}
	s.t.Logf("%d queries", queries)
}

func (s *scene) killed() {
	dir, listen := s.t.TempDir(), "http.listen="+freeAddress(s.t)
	i := s.watched(dir, "--set", listen)
	s.calm()
	for n := range 3 {
		i.kill()
		i = s.start(dir, "--set", listen)
		waitFor(s.t, "the new process to be scraped", func() bool {
			return len(s.w.query(fmt.Sprintf("changes(process_start_time_seconds{job=%q}[1m]) == %d", s.job, n+1))) > 0
		})
	}
	s.w.fires(s.job, "PrtwatchUncleanShutdown")
	s.w.fires(s.job, "PrtwatchRestarting")
	i.kill()
}

func (s *scene) silent() {
	end := s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	s.calm()
	end()
}

func (s *scene) inputHeld() {
	p := newProxy(s.t, s.b)
	s.feed(50, time.Now)
	s.watched(s.t.TempDir(), "--set", "input.brokers="+p.addr())
	s.calm()
	p.holdTopic(s.input)
}

// slow has each commit of a transaction take three seconds, with many sign-ins to come.
func (s *scene) slow() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	s.calm()
	cluster := s.b.Embedded().Cluster
	cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { time.Sleep(3 * time.Second) })
		return nil, nil, false
	})
	s.pile(200_000)
}

func (s *scene) away() {
	p := newProxy(s.t, s.b)
	s.feed(50, time.Now)
	s.watched(s.t.TempDir(), "--set", "kafka.brokers="+p.addr(), "--set", "input.brokers="+s.b.Addrs()[0])
	s.calm()
	p.close()
}

func (s *scene) signInsHeld() {
	p := newProxy(s.t, s.b)
	s.feed(50, time.Now)
	s.watched(s.t.TempDir(), "--set", "kafka.brokers="+p.addr(), "--set", "input.brokers="+s.b.Addrs()[0])
	s.calm()
	p.holdTopic(s.signs)
}

func (s *scene) unreadable() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	s.calm()
	var records []*kgo.Record
	for n := range 500 {
		records = append(records, &kgo.Record{Topic: s.input, Partition: int32(n % inputPartitions), Value: []byte("<records>")})
	}
	s.b.Produce(records...)
}

func (s *scene) notJoined() {
	s.b.Embedded().Cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.JoinGroup}, Group: s.b.Name("split"), Err: kerr.CoordinatorLoadInProgress, Count: -1,
	})
	i := s.start(s.t.TempDir())
	s.w.watch(s.job, i)
	s.calm()
}

// stranger has somebody in the detecting group who shares partitions out in another way, so that no member of ours is taken.
func (s *scene) stranger() {
	client := s.b.Client(kgo.ConsumerGroup(s.b.Name("detect")), kgo.ConsumeTopics(s.signs), kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
	s.feed(50, time.Now)
	i := s.start(s.t.TempDir(), "--only", "split")
	s.w.watch(s.job, i)
	waitFor(s.t, "somebody to read sign-ins", func() bool { return client.PollFetches(s.t.Context()).NumRecords() > 0 })
	s.calm()
	s.w.watch(s.job, s.start(s.t.TempDir(), "--only", "detect"))
}

func (s *scene) refused() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	s.calm()
	s.b.Embedded().Cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.RebalanceInProgress, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: s.b.Name("split"), Err: kerr.UnknownServerError, Count: -1},
	)
}

func (s *scene) restless() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	waitFor(s.t, "the group to have settled", func() bool {
		return len(s.w.query(fmt.Sprintf("increase(prtwatch_detect_rebalances_total{job=%q}[5s]) == 0", s.job))) > 0
	})
	s.calm()
	dir := s.t.TempDir()
	for !s.w.firing(s.job)["PrtwatchRebalancing"] && !s.t.Failed() {
		other := s.start(dir, "--only", "detect")
		other.says("partitions assigned")
		other.stop()
	}
}

func (s *scene) allowlist() {
	allow := file(s.t, "offices.txt", "192.0.2.0/24\n")
	s.watched(s.t.TempDir(), "--set", "detection.allowlist="+allow)
	s.calm()
	if err := os.WriteFile(allow, []byte("192.0.2.0/42\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) clock() {
	end := s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	s.calm()
	end()
	s.feed(50, func() time.Time { return time.Now().Add(time.Hour) })
}

// flood has users come of whom nothing is known, after more than what is an hour without an alert.
func (s *scene) flood() {
	s.feed(50, time.Now)
	s.watched(s.t.TempDir())
	waitFor(s.t, "more than an hour of Prometheus's to go by", func() bool {
		return len(s.w.query(fmt.Sprintf("prtwatch_alerts_total{job=%q} offset 65s", s.job))) > 0
	})
	s.calm()
	var list []made
	for n := range 150 {
		list = append(list, made{id: fmt.Sprint("new-", n), user: fmt.Sprintf("new%d@example.com", n), ip: "203.0.113.1", asn: "64500", at: time.Now()})
	}
	s.write(list, 10)
}

// zombie is stopped in the middle of a write, for longer than its session; what it had in hand arrives when another has learned more.
func (s *scene) zombie() {
	s.installation = newInstallation(s.t, withoutTransactions(s.t))
	s.config = append(s.config, "--set", "delivery=at-least-once")
	start, hour := time.Now().Add(-20*time.Hour).Truncate(time.Hour), 0
	write := func(users int) {
		var list []made
		for u := range users {
			list = append(list, made{
				id: fmt.Sprintf("u%d-%d", u, hour), user: fmt.Sprintf("u%d@example.com", u), at: start.Add(time.Duration(hour)*time.Hour + time.Minute),
				ip: fmt.Sprintf("203.0.113.%d", hour), asn: fmt.Sprint(64496 + hour),
			})
		}
		hour++
		s.write(list, 3)
	}
	s.start(s.t.TempDir(), "--only", "split")
	p := newProxy(s.t, s.b)
	zombie := s.start(s.t.TempDir(), "--only", "detect", "--set", "kafka.brokers="+p.addr())
	write(30)
	s.done()
	air := p.holdProduces(s.b.Name("baseline"), 0)
	write(30)
	air.wait(s.t)
	zombie.signal(syscall.SIGSTOP)
	owner := s.watched(s.t.TempDir(), "--only", "detect")
	owner.says("partitions assigned")
	s.done()
	write(30)
	s.done()
	s.calm()
	air.end()
	write(10)
}
