package detect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fenceWithin bounds the attempt to end what the dead left open; brokers do it too, later.
const fenceWithin = 5 * time.Second

// groupOffsets is the topic of the brokers in which a transaction writes its offsets.
const groupOffsets = "__consumer_offsets"

// inherit ends the transactions that predecessors left open on our topics.
//
// Who is killed in the middle of a transaction leaves it open. Readers of alerts wait at it, and so
// does the restore of its partitions, until a broker looks for transactions that have timed out:
// for transaction_timeout and up to ten seconds more. But whoever asks for a producer id under its
// transactional id ends that transaction at once. A member that is given partitions does so under its
// own id first, for a process that was killed or a session of ours that was lost: the client would
// do it at its first produce, which is after the restore that waits. And then under those of members
// that are not in the group any more.
//
// All that can come of it is an abort, or the end of a commit that was decided. So it does no wrong
// to an owner that lives, such as a process that was stopped for a while: that finds its session lost
// and opens another one.
func (d *exactlyOnce) inherit(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	_, _, err := client.ProducerID(ctx)
	dead, e := d.abandoned(ctx)
	err = errors.Join(err, e)
	for _, id := range dead {
		e := fence(ctx, client, id, d.cfg.TransactionTimeout)
		if err = errors.Join(err, e); e == nil {
			d.log.Info("ended the transaction of a member that is gone", "transactional_id", id)
		}
	}
	if err != nil && ctx.Err() == nil {
		// A broker that is down, is too old to list transactions or will not let us.
		d.log.Debug("ending what predecessors left open; it times out", "error", err)
	}
}

// abandoned returns the transactional ids of open transactions on our topics whose owner is not in
// the group. The transactions are asked for first: who has one open then, and is not a member
// after that, will not come back to it.
func (d *exactlyOnce) abandoned(ctx context.Context) (ids []string, err error) {
	// The answers of some brokers are worth something when others are down.
	open, listErr := d.admin.ListTransactions(ctx, nil, []string{"Ongoing"})
	prefix := d.cfg.Group + "-"
	for id, t := range open {
		if strings.HasPrefix(id, prefix) && t.State == "Ongoing" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, listErr
	}
	members, err := d.memberNames(ctx)
	if err != nil {
		return nil, errors.Join(listErr, err)
	}
	described, err := d.admin.DescribeTransactions(ctx, ids...)
	ids = ids[:0]
	for id, t := range described {
		if d.writesOurs(t.Topics) && !members[strings.TrimPrefix(id, prefix)] {
			ids = append(ids, id)
		}
	}
	return ids, errors.Join(listErr, err)
}

// writesOurs reports whether a transaction has written to our topics and to no others. Who is killed early has
// written to one of them and not yet to the rest; a group whose name begins with ours has a baseline
// of its own, and is told by that.
func (d *exactlyOnce) writesOurs(written kadm.TopicsSet) bool {
	ours := map[string]bool{d.baseline.name: true, d.deps.Topics.Alerts: true, d.deps.Topics.DeadLetter: true, groupOffsets: true}
	for topic := range written {
		if !ours[topic] {
			return false
		}
	}
	return len(written) > 0
}

// memberNames returns the group instance ids of those who are in the group.
func (d *exactlyOnce) memberNames(ctx context.Context) (names map[string]bool, err error) {
	names = make(map[string]bool)
	note := func(id *string) {
		if id != nil {
			names[*id] = true
		}
	}
	described, err := d.admin.DescribeGroups(ctx, d.cfg.Group)
	if err == nil {
		err = described.Error()
	}
	for _, m := range described[d.cfg.Group].Members {
		note(m.InstanceID)
	}
	if d.cfg.GroupProtocol == Consumer {
		var consumers kadm.DescribedConsumerGroups
		consumers, err = d.admin.DescribeConsumerGroups(ctx, d.cfg.Group)
		if err == nil {
			err = consumers.Error()
		}
		for _, m := range consumers[d.cfg.Group].Members {
			note(m.InstanceID)
		}
	}
	if err == nil && !names[d.name] {
		err = errors.New("we are not in it")
	}
	if err != nil {
		return nil, fmt.Errorf("asking who is in group %s: %w", d.cfg.Group, err)
	}
	return names, nil
}

// fence ends the open transaction of a transactional id.
func fence(ctx context.Context, client *kgo.Client, id string, timeout time.Duration) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &id
	request.TransactionTimeoutMillis = int32(timeout.Milliseconds())
	for {
		response, err := request.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(response.ErrorCode)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) { // which says that the abort is on its way
			if err != nil {
				err = fmt.Errorf("ending the transaction of %s: %w", id, err)
			}
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("ending the transaction of %s: %w", id, ctx.Err())
		}
	}
}

// replaced reports whether the group says that another process has our name.
func (m *member) replaced() bool {
	ctx, cancel := context.WithTimeout(m.limit, time.Second)
	defer cancel()
	request := kmsg.NewPtrHeartbeatRequest()
	request.Group, request.InstanceID = m.cfg.Group, &m.name
	request.MemberID, request.Generation = m.client.GroupMetadata()
	response, err := request.RequestWith(ctx, m.client)
	return err == nil && errors.Is(kerr.ErrorForCode(response.ErrorCode), kerr.FencedInstanceID)
}
