package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/cmd/faults/fleet"
)

// await asks until the answer is nil. When patience is over it says what was waited for, and the
// last answer.
func (s *scene) await(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		one, cancelOne := context.WithTimeout(ctx, 5*time.Second)
		err := ask(one)
		cancelOne()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settled is nil when the instances that run say that they are ready, and both groups have them as
// members and nobody else.
func (s *scene) settled(ctx context.Context) error {
	var running int
	for _, i := range s.instances {
		if !i.Running() {
			continue
		}
		running++
		if err := i.Ready(ctx); err != nil {
			return err
		}
	}
	splitting, _, err := s.classicGroup(ctx, splitGroup)
	if err != nil {
		return err
	}
	if splitting != running {
		return fmt.Errorf("group %s has %d members of %d", splitGroup, splitting, running)
	}
	ask := s.classicGroup
	if s.Protocol == "consumer" {
		ask = s.consumerGroup
	}
	_, names, err := ask(ctx, detectGroup)
	if err != nil {
		return err
	}
	for _, i := range s.instances {
		if names[i.Name] != i.Running() {
			return fmt.Errorf("of %s group %s thinks otherwise", i.Name, detectGroup)
		}
	}
	return nil
}

// classicGroup returns how many members a group has and which instances they are of, once it is
// stable.
func (s *scene) classicGroup(ctx context.Context, group string) (members int, of map[string]bool, err error) {
	described, err := s.admin.DescribeGroups(ctx, group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return 0, nil, errors.Join(err, s.connect())
	}
	g := described[group]
	var ids []*string
	for _, m := range g.Members {
		ids = append(ids, m.InstanceID)
	}
	return membership(group, g.State, ids)
}

// consumerGroup is classicGroup for one that the brokers share out (KIP-848).
func (s *scene) consumerGroup(ctx context.Context, group string) (members int, of map[string]bool, err error) {
	described, err := s.admin.DescribeConsumerGroups(ctx, group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return 0, nil, errors.Join(err, s.connect())
	}
	g := described[group]
	var ids []*string
	for _, m := range g.Members {
		ids = append(ids, m.InstanceID)
	}
	return membership(group, g.State, ids)
}

func membership(group, state string, ids []*string) (members int, of map[string]bool, err error) {
	if state != "Stable" {
		return 0, nil, errors.New("group " + group + " is " + state)
	}
	of = make(map[string]bool)
	for _, id := range ids {
		if id != nil {
			name, _, _ := strings.Cut(*id, "-") // <instance>-<member>
			of[name] = true
		}
	}
	return len(ids), of, nil
}

// flowing waits until the fleet is settled and all that was due until then, and for a second at
// least since begun, has alerted.
func (s *scene) flowing(ctx context.Context, begun time.Time) (until time.Time, err error) {
	if err := s.await(ctx, "the instances to settle", s.settled); err != nil {
		return until, err
	}
	until = time.Now()
	if least := begun.Add(time.Second); until.Before(least) {
		until = least
	}
	return until, s.await(ctx, "the alerts", func(context.Context) error { return s.stream.missing(until) })
}

// active returns the instance that splits.
func (s *scene) active(ctx context.Context) (active *fleet.Instance, err error) {
	err = s.await(ctx, "an instance to split", func(ctx context.Context) error {
		for _, i := range s.instances {
			if i.Running() && i.Metric(ctx, "prtwatch_split_active") == 1 {
				active = i
				return nil
			}
		}
		return errors.New("none is the active splitter")
	})
	return active, err
}

// known is nil when every broker, asked by itself, knows a leader of every partition of prtwatch's
// topics: they hear of new ones one after the other.
func (s *scene) known(ctx context.Context) error {
	for _, address := range s.cluster.Addrs() {
		client, err := kgo.NewClient(kgo.SeedBrokers(address))
		if err != nil {
			return err
		}
		defer client.Close()
		response, err := client.SeedBrokers()[0].Request(ctx, kmsg.NewPtrMetadataRequest())
		if err != nil {
			return err
		}
		led := 0
		for _, t := range response.(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				if !t.IsInternal && p.Leader >= 0 {
					led++
				}
			}
		}
		if all := inputPartitions + 3*partitions + 1; led < all {
			return fmt.Errorf("broker %s knows the leaders of %d partitions of %d", address, led, all)
		}
	}
	return nil
}
