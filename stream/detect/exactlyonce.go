package detect

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/internal/fault"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// delivery is how what was judged leaves a member: what differs between brokers with
// transactions and those without. Its methods are called by the member's goroutine.
type delivery interface {
	// open makes the client of a new session.
	open(opts []kgo.Opt) (*kgo.Client, error)
	// inherit is called, on a goroutine of its own, when partitions were assigned: it ends what
	// their last owners left undecided. ctx ends with the client.
	inherit(ctx context.Context, client *kgo.Client)
	// clear forgets what the session has noted of a rebalance. No polled record is in hand.
	clear(ctx context.Context) error
	// write writes the work in hand to its topics: false where nothing of it counts, because of
	// a rebalance. After an error the session is of no use.
	write(ctx context.Context) (bool, error)
	// acknowledge is called when the work is in Pebble, and once more before the member leaves.
	acknowledge(ctx context.Context) error
	// look is called when no record is in hand.
	look() error
}

// exactlyOnce writes alerts, profiles and offsets in one transaction.
type exactlyOnce struct {
	*member
	session *kgo.GroupTransactSession
}

func (d *exactlyOnce) open(opts []kgo.Opt) (*kgo.Client, error) {
	session, err := kgo.NewGroupTransactSession(append(opts,
		kgo.TransactionalID(d.cfg.Group+"-"+d.name),
		kgo.TransactionTimeout(d.cfg.TransactionTimeout),
	)...)
	if err != nil {
		return nil, err
	}
	d.session = session
	return session.Client(), nil
}

// clear: the session has noted a revoke and would abort the next transaction for it, which is
// none of this partition's any more. An End without a Begin clears the note.
func (d *exactlyOnce) clear(ctx context.Context) error {
	if _, err := d.session.End(ctx, kgo.TryAbort); err != nil {
		return d.transactionError("clearing the session after a rebalance", err)
	}
	return nil
}

func (d *exactlyOnce) acknowledge(context.Context) error { return nil }
func (d *exactlyOnce) look() error                       { return nil }

// write produces the work and commits it with its offsets. It reports false where the
// transaction was aborted in good order.
func (d *exactlyOnce) write(ctx context.Context) (committed bool, err error) {
	if d.work.strayed {
		if _, err := d.session.End(ctx, kgo.TryAbort); err != nil {
			return false, d.transactionError("leaving out records of a partition that was revoked", err)
		}
		return false, nil
	}
	for _, a := range d.work.touched {
		if err := d.sweep(a); err != nil {
			return false, err
		}
	}
	began := time.Now()
	if err := d.session.Begin(); err != nil {
		return false, d.transactionError("beginning a transaction", err)
	}
	if err := d.produce(ctx); err != nil {
		if kafka.Refused(err) != nil {
			return false, d.transactionError("writing a transaction", err)
		}
		// A record that was refused must not be missing from a committed transaction.
		if _, endErr := d.session.End(ctx, kgo.TryAbort); endErr != nil {
			return false, d.transactionError("aborting a transaction", endErr)
		}
		return false, d.produceError(err)
	}
	fault.Pass(fault.DetectProduced)
	// The offsets carry how far the baseline topic has come: see baselineTopic.mark.
	committed, err = d.session.End(kgo.PreTxnCommitFnContext(ctx, d.markOffsets), kgo.TryCommit)
	if err != nil {
		return false, d.transactionError("committing a transaction", err)
	}
	if committed { // so nobody else has written of these partitions before it began
		for _, a := range d.work.touched {
			a.last, a.producedLast = began, began
		}
	}
	return committed, nil
}

// produce writes the work's records and waits until the broker has them. It returns the
// first error of a record.
func (d *exactlyOnce) produce(ctx context.Context) error {
	failed, first := promise()
	d.produceOutput(ctx, failed)
	d.produceChanges(ctx, failed)
	fault.Pass(fault.DetectProducing)
	if err := d.flush(ctx); err != nil {
		return err
	}
	return *first
}

// markOffsets adds to the offsets of a transaction how far the baseline topic has come, and sends none
// under another member id than that which the partition was given to. The session calls it after all records
// were acknowledged.
func (d *exactlyOnce) markOffsets(request *kmsg.TxnOffsetCommitRequest) error {
	for i := range request.Topics {
		for j := range request.Topics[i].Partitions {
			p := &request.Topics[i].Partitions[j]
			if a := d.running[p.Partition]; a != nil {
				if a.memberID != request.MemberID {
					return errThrownOut
				}
				mark := d.baseline.mark(p.Offset, max(a.next, a.produced), a.now, a.heard.text())
				p.Metadata = &mark
			}
		}
	}
	return nil
}

// transactionError says what to do where brokers will have no transactions, which another
// session could not change.
func (d *exactlyOnce) transactionError(doing string, err error) error {
	if refused := kafka.Refused(err); refused != nil {
		return fmt.Errorf("%s: the brokers refuse transactions (%w); set `delivery: at-least-once`, or grant this user "+
			"the transactional ids that begin with %s", doing, refused, d.cfg.Group+"-")
	}
	if final := kafka.CommitRefused(d.cfg.Group, err); final != nil {
		return final
	}
	return d.sessionError(doing, err)
}
