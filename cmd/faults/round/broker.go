package round

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/prtwatch/prtwatch/cmd/faults/plan"
)

// syncWithin is how long a broker that came back may take to be in sync everywhere.
const syncWithin = time.Minute

func (s *scene) brokerDown(orderly bool) func(*rand.Rand) *injection {
	return func(r *rand.Rand) *injection {
		if !s.brokers.TryLock() {
			return nil
		}
		return s.down(r.IntN(s.Cluster.Brokers()), orderly, plan.Between(r, time.Second, 15*time.Second))
	}
}

// down has a broker away for a while. s.brokers is claimed.
func (s *scene) down(broker int, orderly bool, long time.Duration) *injection {
	return &injection{fmt.Sprintf("broker %d", broker), func(ctx context.Context) (bool, string) {
		defer s.brokers.Unlock()
		var err error
		if orderly {
			err = s.Cluster.Stop(context.WithoutCancel(ctx), broker)
		} else {
			err = s.Cluster.Kill(broker)
		}
		if err != nil {
			s.find("suite", "ending broker %d: %v", broker, err)
		}
		whole := pause(ctx, long)
		if err := s.Cluster.Restart(context.WithoutCancel(ctx), broker); err != nil {
			s.find("suite", "starting broker %d: %v", broker, err)
		}
		s.awaitSync(context.WithoutCancel(ctx))
		s.broke()
		return whole, long.Round(time.Millisecond).String()
	}}
}

func (s *scene) brokerPause(r *rand.Rand) *injection {
	if !s.brokers.TryLock() {
		return nil
	}
	broker, long := r.IntN(s.Cluster.Brokers()), plan.Between(r, 2*time.Second, 12*time.Second)
	return &injection{fmt.Sprintf("broker %d", broker), func(ctx context.Context) (bool, string) {
		defer s.brokers.Unlock()
		if err := s.Cluster.Pause(broker); err != nil {
			s.find("suite", "pausing broker %d: %v", broker, err)
		}
		whole := pause(ctx, long)
		if err := s.Cluster.Resume(broker); err != nil {
			s.find("suite", "resuming broker %d: %v", broker, err)
		}
		s.awaitSync(context.WithoutCancel(ctx))
		s.broke()
		return whole, long.Round(time.Millisecond).String()
	}}
}

// coordinator kills the broker that coordinates the splitting group, the detecting group or the
// transactions of one of its members.
func (s *scene) coordinator(r *rand.Rand) *injection {
	if !s.brokers.TryLock() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var found kadm.FindCoordinatorResponses
	what := ""
	switch r.IntN(3) {
	case 0:
		what = s.names["split"]
		found = s.admin.FindGroupCoordinators(ctx, what)
	case 1:
		what = s.names["detect"]
		found = s.admin.FindGroupCoordinators(ctx, what)
	default:
		what = fmt.Sprintf("%s-slot%d-%d", s.names["detect"], r.IntN(Slots-1), r.IntN(members))
		found = s.admin.FindTxnCoordinators(ctx, what)
	}
	broker := s.brokerOf(ctx, found[what])
	if broker < 0 {
		s.brokers.Unlock()
		return nil
	}
	down := s.down(broker, r.IntN(2) == 0, plan.Between(r, time.Second, 10*time.Second))
	down.target += " of " + what
	return down
}

// brokerOf returns the cluster's number of the broker that coordinates, or -1.
func (s *scene) brokerOf(ctx context.Context, c kadm.FindCoordinatorResponse) int {
	if c.Err != nil || c.Port == 0 {
		return -1
	}
	for n, address := range s.Cluster.Addrs() {
		if address == fmt.Sprintf("%s:%d", c.Host, c.Port) {
			return n
		}
	}
	return -1
}

// leaders moves the leaders of all partitions, those of the coordinators too, to the next of
// their replicas. No data moves.
func (s *scene) leaders(*rand.Rand) *injection {
	if !s.brokers.TryLock() {
		return nil
	}
	return &injection{"all partitions", func(ctx context.Context) (bool, string) {
		defer s.brokers.Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		defer s.broke()
		topics, err := s.admin.ListTopicsWithInternal(ctx, "__consumer_offsets", "__transaction_state",
			s.names["input"], s.names["signins"], s.names["baseline"], s.names["alerts"])
		if err != nil {
			return false, err.Error()
		}
		var order kadm.AlterPartitionAssignmentsReq
		elect := make(kadm.TopicsSet)
		for _, t := range topics {
			for _, p := range t.Partitions {
				if n := len(p.Replicas); n > 1 {
					order.Assign(t.Topic, p.Partition, append(append([]int32(nil), p.Replicas[1:]...), p.Replicas[0]))
					elect.Add(t.Topic, p.Partition)
				}
			}
		}
		if _, err := s.admin.AlterPartitionAssignments(ctx, order); err != nil {
			return false, err.Error()
		}
		if _, err := s.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, elect); err != nil {
			return false, err.Error()
		}
		return true, ""
	}}
}

// awaitSync waits until all replicas are in sync, so that another broker can be taken.
func (s *scene) awaitSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	if err := s.Cluster.AwaitInSync(ctx); err != nil {
		s.write(entry{What: "note", Detail: err.Error()})
	}
}
