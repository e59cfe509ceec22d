package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// alert is what is shown of one. Its texts are Printable.
type alert struct {
	at                                                 time.Time // it was written
	severity, user, from, resource, app, reason, agent string
}

// maxAlerts is how many are kept, and how far behind the end of each partition reading begins: an alert in a transaction
// of its own takes two offsets.
const (
	maxAlerts = 50
	behindEnd = 2 * maxAlerts
)

// tail is the end of the alerts topic.
type tail struct {
	read    chan struct{} // closed when what was there has been read, or it is known why not
	changed chan struct{} // of size 1: there is something new to show
	once    sync.Once

	mu struct {
		sync.Mutex
		alerts  []alert // the newest first
		trouble string
	}
}

func newTail() *tail {
	t := &tail{read: make(chan struct{}), changed: make(chan struct{}, 1)}
	t.mu.trouble = "not read yet"
	return t
}

// last returns the newest alerts, and why there may be more.
func (t *tail) last() ([]alert, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.mu.alerts), t.mu.trouble
}

// say notes what is wrong, or nothing, and that something changed.
func (t *tail) say(trouble string) {
	t.mu.Lock()
	t.mu.trouble = trouble
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// againAfter is how soon brokers that did not answer are asked again.
const againAfter = 5 * time.Second

// follow reads the topic until ctx is done.
func (t *tail) follow(ctx context.Context, cluster kafka.Cluster, topic string, patience time.Duration) {
	for ctx.Err() == nil {
		err := t.session(ctx, cluster, topic, patience)
		if ctx.Err() != nil {
			return
		}
		t.say(detector.Printable(err.Error()))
		t.once.Do(func() { close(t.read) })
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// session reads with one client, until it cannot.
func (t *tail) session(ctx context.Context, cluster kafka.Cluster, topic string, patience time.Duration) error {
	if err := kafka.Await(ctx, cluster, "kafka", patience); err != nil {
		return err
	}
	opts, err := cluster.Options(slog.New(slog.DiscardHandler)) // the screen is not for a log
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(append(opts, kgo.WithContext(ctx), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxBytes(4<<20))...)
	if err != nil {
		return err
	}
	defer client.Close()
	left, err := t.begin(ctx, client, topic)
	if err != nil {
		return err
	}
	for {
		if len(left) == 0 {
			t.say("")
			t.once.Do(func() { close(t.read) })
		}
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading topic %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				t.take(r)
			}
		})
	}
}

// begin starts reading a little before the end of each partition, and returns where they end that have something.
func (t *tail) begin(ctx context.Context, client *kgo.Client, topic string) (left map[int32]int64, err error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = admin.ListCommittedOffsets(ctx, topic)
	}
	if err == nil {
		err = errors.Join(starts.Error(), ends.Error())
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("topic %s is not there", topic)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s: %w", topic, err)
	}
	left = make(map[int32]int64)
	from := make(map[int32]kgo.Offset)
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		at := max(start.Offset, end.Offset-behindEnd)
		if at < end.Offset {
			left[end.Partition] = end.Offset
		}
		from[end.Partition] = kgo.NewOffset().At(at)
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	return left, nil
}

// take puts an alert among the last ones. What is none is left out.
func (t *tail) take(r *kgo.Record) {
	var from detector.Alert
	if json.Unmarshal(r.Value, &from) != nil {
		return
	}
	a := alertOf(&from, r.Timestamp)
	t.mu.Lock()
	defer t.mu.Unlock()
	at, _ := slices.BinarySearchFunc(t.mu.alerts, a, func(have, a alert) int { return a.at.Compare(have.at) })
	t.mu.alerts = slices.Insert(t.mu.alerts, at, a)
	t.mu.alerts = t.mu.alerts[:min(len(t.mu.alerts), maxAlerts)]
}

// alertOf is what is shown of an alert. Whoever signed in has chosen some of its texts.
func alertOf(from *detector.Alert, at time.Time) alert {
	where := []string{from.Source.IP}
	if from.Source.ASN != nil {
		where = append(where, fmt.Sprintf("AS%d", *from.Source.ASN))
	}
	where = append(where, from.Source.Country)
	user := from.User.UPN
	if user == "" {
		user = from.User.ID
	}
	reason := string(from.Reason)
	if from.Late {
		reason += " (late)"
	}
	return alert{
		at: at, severity: detector.Printable(fmt.Sprint(from.Severity)), user: detector.Printable(user), from: detector.Printable(strings.TrimSpace(strings.Join(where, " "))),
		resource: detector.Printable(from.Resource.Name), app: detector.Printable(from.App.Name), reason: detector.Printable(reason), agent: detector.Printable(from.UserAgent),
	}
}

// alertColumns are what is shown of an alert, the most telling first, and how wide each may be.
var alertColumns = []struct {
	title string
	most  int
	text  func(a alert, now time.Time) string
}{
	{"ALERT", 12, func(a alert, now time.Time) string { return clock(a.at, now) }},
	{"USER", 32, func(a alert, _ time.Time) string { return a.user }},
	{"FROM", 30, func(a alert, _ time.Time) string { return a.from }},
	{"RESOURCE", 24, func(a alert, _ time.Time) string { return a.resource }},
	{"REASON", 18, func(a alert, _ time.Time) string { return a.reason }},
	{"SEVERITY", 13, func(a alert, _ time.Time) string { return a.severity }},
	{"APP", 32, func(a alert, _ time.Time) string { return a.app }},
	{"USER AGENT", 60, func(a alert, _ time.Time) string { return a.agent }},
}

// clock is a time of day, with the day where that is another.
func clock(at, now time.Time) string {
	at = at.In(now.Location())
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format(time.TimeOnly)
	}
	return at.Format("Jan 02 15:04")
}

// narrowest is the least of a column that is worth showing.
const narrowest = 8

// alertLines are the last alerts, the newest first, at most so many.
func (f frame) alertLines(width, room int) (lines []line) {
	shown := f.alerts[:max(0, min(len(f.alerts), room))]
	if len(shown) == 0 {
		text := f.noAlerts
		if text == "" {
			text = "none"
		}
		return []line{{"LAST ALERTS: " + text, plain}}
	}
	all := make([]strings.Builder, len(shown)+1)
	used := 0
	for _, c := range alertColumns {
		texts, w := []string{c.title}, textWidth(c.title)
		for _, a := range shown {
			texts = append(texts, c.text(a, f.now))
			w = max(w, min(textWidth(c.text(a, f.now)), c.most))
		}
		if width > 0 {
			if w = min(w, width-used); w < min(narrowest, textWidth(c.title)) {
				break
			}
		}
		for i, text := range texts {
			text = cut(text, w)
			all[i].WriteString(text + strings.Repeat(" ", w-textWidth(text)) + "  ")
		}
		used += w + 2
	}
	for i := range all {
		lines = append(lines, line{all[i].String(), plain})
	}
	lines[0].style = title
	if f.noAlerts != "" {
		lines = append(lines[:len(lines)-1], line{"no newer ones: " + f.noAlerts, alarm})
	}
	return lines
}
