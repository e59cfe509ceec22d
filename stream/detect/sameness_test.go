package detect_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/detect"
	"github.com/prtwatch/prtwatch/stream/kafka"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// inputs are partitions of the input, as the owner sees them who splits them.
type inputs []struct {
	done [][]*detector.SignIn    // its messages
	sent map[int32]signins.Place // the last, by partition of the sign-ins
}

// hears has a stage remember fewer than half of them.
func hears(_ *detect.Config, d *detect.Deps) { detect.SetHeard(d, 40) }

// split sends a message of one of them on. Now and then it sends old ones once more, as an owner does who begins there.
func (in inputs) split(h *house, random *rand.Rand, list []*detector.SignIn) {
	of := random.IntN(len(in))
	if in[of].sent == nil {
		in[of].sent = make(map[int32]signins.Place)
	}
	in[of].done = append(in[of].done, list)
	h.send(of, len(in[of].done)-1, list, in[of].sent)
	if random.IntN(3) == 0 {
		of = random.IntN(len(in))
		began, sent := random.IntN(len(in[of].done)+1), make(map[int32]signins.Place)
		for at := began; at < min(began+4, len(in[of].done)); at++ {
			h.send(of, at, in[of].done[at], sent)
		}
	}
}

// send appends what a message has to the partitions of its users, by an owner who sent them others before.
func (h *house) send(of, message int, list []*detector.SignIn, sent map[int32]signins.Place) {
	var records []*kgo.Record
	for i, s := range list {
		p := kafka.Partition([]byte(s.UPN), partitions)
		o := signins.Origin{Source: signins.Source{Number: 7, Partition: int32(of)}, Place: signins.Place{Offset: int64(message), Index: int32(i)}}
		o.After, o.Follows = sent[p]
		sent[p] = o.Place
		records = append(records, &kgo.Record{Topic: h.topics.Signins, Partition: p, Key: []byte(s.UPN), Value: signins.Append(nil, s, o)})
	}
	h.b.Produce(records...)
}

// writeMonths fills the sign-ins topic with two months of users who come, stay away for about as
// long as the state keeps them, and come back; some of what they do arrives late, and some is split again.
func (h *house) writeMonths(random *rand.Rand) {
	h.t.Helper()
	const users, end = 30, 1500
	next := make([]int, users)  // when they sign in again
	away := make([]bool, users) // until then for about as long as the state keeps them
	in := make(inputs, 9)
	n := 0
	for at := 0; at < end; at += 1 + random.IntN(12) {
		var list []*detector.SignIn
		for user := range users {
			if next[user] > at {
				continue
			}
			back := away[user]
			next[user], away[user] = at+random.IntN(40), random.IntN(8) == 0
			if away[user] {
				next[user] = at + detector.Window + 48 - 20 + random.IntN(120)
			}
			for range 1 + random.IntN(3) {
				hour := at
				if random.IntN(10) == 0 || back && random.IntN(2) == 0 {
					hour = max(0, at-random.IntN(250))
				}
				place := random.IntN(12)
				list = append(list, signIn(fmt.Sprint("sign-in-", n), fmt.Sprintf("user%d@example.com", user),
					fmt.Sprintf("198.51.100.%d", place), fmt.Sprint(64496+place/2), hour))
				n++
			}
		}
		if len(list) > 0 {
			in.split(h, random, list)
		}
		h.tick(at)
	}
}

// elsewhere is a house with the same sign-ins, which has judged none of them.
func (h *house) elsewhere(name string) *house {
	h.t.Helper()
	other := *h
	other.group = h.b.Name(name)
	other.topics.Baseline, other.topics.Alerts = h.b.Name(name+"-baseline"), h.b.Name(name+"-alerts")
	h.b.CreateTopic(other.topics.Baseline, partitions, compacted)
	h.b.CreateTopic(other.topics.Alerts, partitions, nil)
	return &other
}

// written returns all that can be read in the records of the alerts topic but their time and offset.
func (h *house) written() (alerts []string) {
	h.t.Helper()
	for _, r := range h.b.ReadAll(h.topics.Alerts) {
		h.alert(r)
		alerts = append(alerts, fmt.Sprintf("%d %s %s %s", r.Partition, r.Key, r.Headers, r.Value))
	}
	return alerts
}

// Invariant 3: the same log through instances that come and go, in transactions of any size, with
// sweeps at any moment, gives the same alerts, byte by byte and in the same order.
func TestAlertsAreFunctionsOfTheLog(t *testing.T) {
	brokertest.Each(t, func(t *testing.T, b *brokertest.Broker) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		h := newHouse(t, b)
		h.writeMonths(random)
		one := h.start("one", t.TempDir(), hears, func(c *detect.Config, _ *detect.Deps) { c.Members = 1 })
		h.judged()
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
		want := h.written()
		if n, _ := one.count("prtwatch_signins_split_again_total"); n < 100 {
			t.Errorf("%v sign-ins were left out: too few to show anything", n)
		}
		if late := strings.Count(strings.Join(want, ""), `"late":true`); late == 0 || len(want) < 100 {
			t.Errorf("%d alerts, of which %d are late: too few to show anything", len(want), late)
		}
		for _, name := range []string{"sweeps", "restarts"} {
			other := h.elsewhere(name)
			other.judgeAnyhow(random, name == "restarts")
			got := other.written()
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || got[i] != want[i] {
					t.Fatalf("%s: of %d and %d alerts those at %d differ:\n%s\n%s", name, len(got), len(want), i,
						append(got, "none")[min(i, len(got))], append(want, "none")[min(i, len(want))])
				}
			}
			swept := 0
			for _, r := range b.ReadAll(other.topics.Baseline) {
				if r.Value == nil {
					swept++
				}
			}
			if swept == 0 {
				t.Errorf("%s: nobody was swept", name)
			}
		}
	})
}

// judgeAnyhow judges all there is at a pace that changes with each transaction; with instances that
// are stopped and begun anew, where restarts says so.
func (h *house) judgeAnyhow(random *rand.Rand, restarts bool) {
	h.t.Helper()
	var mu sync.Mutex
	anyhow := func(c *detect.Config, d *detect.Deps) {
		hears(c, d)
		c.Members, c.Transaction = 1+random.IntN(3), time.Duration(1+random.IntN(20))*time.Millisecond
		dice := rand.New(rand.NewPCG(random.Uint64(), 1))
		detect.SetPace(d, func() (int, int64, int) {
			mu.Lock()
			defer mu.Unlock()
			return 1 + dice.IntN(60), int64(dice.IntN(300)), 1 + dice.IntN(10)
		})
	}
	s := h.start("one", h.t.TempDir(), anyhow)
	for range 3 {
		if !restarts {
			break
		}
		h.until("some more transactions", func() bool {
			n, _ := s.count("prtwatch_transactions_total")
			return n >= 3 || h.allJudged()
		})
		if err := s.stop(); err != nil {
			h.t.Fatal(err)
		}
		s = h.start("one", h.t.TempDir(), anyhow)
	}
	h.judged()
	if err := s.stop(); err != nil {
		h.t.Fatal(err)
	}
}
