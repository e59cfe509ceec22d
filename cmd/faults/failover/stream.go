package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// every is the pace of the stream: a sign-in each 5 ms, to each partition of the sign-ins topic in
// turn, so that the alerts of one partition are 160 ms apart while all is well.
const every = 5 * time.Millisecond

// stream writes sign-ins that all alert, each of a user of whom nobody has heard, and notes when
// their alerts come. It is an open loop: when a sign-in is due does not depend on what became of
// those before it.
type stream struct {
	client *kgo.Client
	find   func(format string, args ...any)
	end    context.CancelFunc
	done   sync.WaitGroup

	mu struct {
		sync.Mutex
		due     []time.Time // of sign-in n
		seen    []time.Time // its alert; zero before
		stopped bool
		doubled int
	}
}

func newStream(brokers []string, find func(string, ...any)) (*stream, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ConsumeTopics(alertsTopic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(10*time.Second),
	)
	if err != nil {
		return nil, err
	}
	return &stream{client: client, find: find, end: func() {}}, nil
}

// begin starts writing and reading.
func (s *stream) begin() {
	ctx, end := context.WithCancel(context.Background())
	s.end = end
	s.done.Go(func() { s.write(ctx) })
	s.done.Go(func() { s.read(ctx) })
}

// close stops both.
func (s *stream) close() {
	s.end()
	s.done.Wait()
	s.client.Close()
}

// write produces the sign-ins, each when it is due.
func (s *stream) write(ctx context.Context) {
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * every)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		s.mu.Lock()
		stopped := s.mu.stopped
		if !stopped {
			s.mu.due, s.mu.seen = append(s.mu.due, due), append(s.mu.seen, time.Time{})
		}
		s.mu.Unlock()
		if stopped {
			return
		}
		s.client.Produce(ctx, &kgo.Record{
			Topic: inputTopic, Partition: int32(n % inputPartitions), Timestamp: due, Value: message(n, due),
		}, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				s.find("writing sign-in %d: %v", n, err)
			}
		})
	}
}

// message is an export's message with one sign-in.
func message(n int, at time.Time) []byte {
	return fmt.Appendf(nil, `{"records":[{"time":%q,"category":"NonInteractiveUserSignInLogs","tenantId":"11111111-1111-1111-1111-111111111111",`+
		`"resultType":"0","callerIpAddress":"203.0.113.7","properties":{"id":"%d","userPrincipalName":%q,"ipAddress":"203.0.113.7",`+
		`"autonomousSystemNumber":64500,"resourceDisplayName":"Microsoft Intune","authenticationDetails":[]}}]}`,
		at.UTC().Format(time.RFC3339Nano), n, user(n))
}

// user returns a name that is used once and lies in partition n modulo the partitions.
func user(n int) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("user%d.%d@example.com", n, i)
		if kafka.Partition([]byte(name), partitions) == partitionOf(n) {
			return name
		}
	}
}

func partitionOf(n int) int32 { return int32(n % partitions) }

// read notes when the alerts come.
func (s *stream) read(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := s.client.PollFetches(ctx)
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			var alert struct {
				SignIn struct{ ID string } `json:"sign_in"`
			}
			err := json.Unmarshal(r.Value, &alert)
			n, e := strconv.Atoi(alert.SignIn.ID)
			if err = errors.Join(err, e); err != nil {
				s.find("an alert that nobody made: %v: %s", err, r.Value)
				return
			}
			s.note(n, now)
		})
	}
}

func (s *stream) note(n int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case n >= len(s.mu.due):
		s.find("an alert for sign-in %d, which was not written", n)
	case !s.mu.seen[n].IsZero():
		s.mu.doubled++
	default:
		s.mu.seen[n] = now
	}
}

// missing is nil when all that was due until then has alerted and something was due since.
func (s *stream) missing(until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.mu.due) - 1; !s.mu.stopped && (last < 0 || s.mu.due[last].Before(until)) {
		return errors.New("it is not yet time")
	}
	for n, due := range slices.Backward(s.mu.due) {
		if s.mu.seen[n].IsZero() && !due.After(until) {
			return fmt.Errorf("sign-in %d, due %s ago, has not alerted", n, time.Since(due).Round(time.Millisecond))
		}
	}
	return nil
}

// outage is what a reader of alerts saw between two moments.
type outage struct {
	gap    time.Duration // the longest between two alerts of one partition
	latest time.Duration // of all alerts, the longest after its sign-in was due
	dark   int           // partitions without an alert for a second
}

// darkAfter tells a partition that stood still from one that is merely slow.
const darkAfter = time.Second

// outage measures from the moment that something was done until all that was due until the other has
// alerted.
func (s *stream) outage(from, until time.Time) (o outage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var came [partitions][]time.Time
	for n, due := range s.mu.due {
		seen := s.mu.seen[n]
		if seen.IsZero() || due.After(until) || seen.Before(from.Add(-2*time.Second)) {
			continue
		}
		came[partitionOf(n)] = append(came[partitionOf(n)], seen)
		if seen.After(from) {
			o.latest = max(o.latest, seen.Sub(due))
		}
	}
	for _, times := range came {
		slices.SortFunc(times, time.Time.Compare)
		var gap time.Duration
		for k := 1; k < len(times); k++ {
			if times[k].After(from) {
				gap = max(gap, times[k].Sub(times[k-1]))
			}
		}
		o.gap = max(o.gap, gap)
		if gap >= darkAfter {
			o.dark++
		}
	}
	return o
}

// finish stops writing, waits for the alerts that are on their way, and counts.
func (s *stream) finish(ctx context.Context) (signIns, lost, doubled int) {
	s.mu.Lock()
	s.mu.stopped = true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for s.missing(time.Now()) != nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.mu.seen {
		if seen.IsZero() {
			lost++
		}
	}
	return len(s.mu.due), lost, s.mu.doubled
}
