package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prtwatch/prtwatch/internal/oracle"
)

// judge is one verification under way.
type judge struct {
	options
	*report
	brokers *brokers
	query   *oracle.Query
	refused map[letter]refusal // what belongs among the dead letters
	rows    map[string][]oracle.Row
	alerted map[string][]announced // by user key
	taught  map[string]*taught     // by user key
	split   map[string]splits      // records of the sign-ins topic, by user key
	expired map[string]bool        // users that must be unknown by now
}

// verify checks everything once. An error says what could not be read.
func verify(ctx context.Context, o options) (*report, error) {
	query, err := oracle.New(oracle.Options{OpenFarEdge: true, MaxFuture: o.maxFuture, EventTime: o.eventTime})
	if err != nil {
		return nil, err
	}
	b, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	j := &judge{
		options: o, report: newReport(o.examples), brokers: b, query: query,
		refused: map[letter]refusal{}, rows: map[string][]oracle.Row{}, alerted: map[string][]announced{},
		taught: map[string]*taught{}, split: map[string]splits{}, expired: map[string]bool{},
	}
	var stores []*store
	for _, dir := range o.states {
		s, err := readStore(dir)
		if err != nil {
			return nil, err
		}
		stores = append(stores, s)
	}
	if err := b.whole(append(slices.Clone(o.input), o.signIns, o.alerts, o.deadLetter)...); err != nil {
		return nil, err
	}
	if err := j.readInput(ctx); err != nil {
		return nil, err
	}
	events, err := j.checkGroups(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(j.checkSignIns(ctx), j.checkAlerts(ctx), j.checkDeadLetters(ctx)); err != nil {
		return nil, err
	}
	profiles, err := j.readBaseline(ctx)
	if err != nil {
		return nil, err
	}
	j.checkProfiles(profiles, events)
	for _, s := range stores {
		j.checkStore(s, profiles)
	}
	return j.report, nil
}

// readInput gives the oracle every message, and runs the query.
func (j *judge) readInput(ctx context.Context) error {
	for _, topic := range j.input {
		err := j.brokers.read(ctx, topic, func(r *kgo.Record) {
			j.Messages++
			var arrived time.Time // a record may have none
			if r.Timestamp.Unix() > 0 {
				arrived = r.Timestamp
			}
			for _, refused := range j.query.Take(r.Value, arrived) {
				at := letter{topic, r.Partition, r.Offset, refused.Record}
				j.refused[at] = refusalOf(refused.Bytes)
			}
		})
		if err != nil {
			return err
		}
	}
	for user, signIns := range j.query.Users() {
		j.taught[user] = teach(signIns)
	}
	j.SignIns = j.query.Added()
	for _, row := range j.query.Rows() {
		j.rows[row.ID] = append(j.rows[row.ID], row)
	}
	j.Rows = len(j.rows)
	if ips, asns := j.query.Largest(); ips > maxIPs || asns > maxASNs {
		return fmt.Errorf("a user has %d addresses and %d networks: above %d and %d the query itself is undefined, and nothing can be verified", ips, asns, maxIPs, maxASNs)
	}
	return nil
}

// splits are how many records of a user the sign-ins topic has, by sign-in id.
type splits map[string]int

func (s splits) all() (n int) {
	for _, times := range s {
		n += times
	}
	return n
}

// idOf returns the sign-in id in a record of the sign-ins topic, field 1 behind the version; "" where there is none.
func idOf(value []byte) string {
	for at := 1; at < len(value); {
		number, kind, n := protowire.ConsumeTag(value[at:])
		if n < 0 {
			break
		}
		at += n
		if number == 1 && kind == protowire.BytesType {
			id, _ := protowire.ConsumeString(value[at:])
			return id
		}
		if n = protowire.ConsumeFieldValue(number, kind, value[at:]); n < 0 {
			break
		}
		at += n
	}
	return ""
}

// checkSignIns counts the records of each sign-in in the sign-ins topic: as many at the least as in
// the input, for the splitter may repeat itself, and of nobody else.
func (j *judge) checkSignIns(ctx context.Context) error {
	n := j.brokers.partitions(j.signIns)
	err := j.brokers.read(ctx, j.signIns, func(r *kgo.Record) {
		if isTick(r) {
			return
		}
		user := string(r.Key)
		if j.split[user] == nil {
			j.split[user] = splits{}
		}
		j.split[user][idOf(r.Value)]++
		where := fmt.Sprintf("the sign-in of %q at partition %d offset %d of %s", r.Key, r.Partition, r.Offset, r.Topic)
		if want := partitionOf(user, n); r.Key == nil || want != r.Partition {
			j.Misplaced++
			j.find("misplaced", "%s: it belongs to partition %d", where, want)
		} else if j.taught[user] == nil {
			j.Misplaced++
			j.find("misplaced", "%s: no sign-in of that user is in the input", where)
		}
	})
	if err != nil {
		return err
	}
	for user, t := range j.taught {
		for id, times := range t.signIns {
			if lost := times - j.split[user][id]; lost > 0 {
				j.Unsplit += lost
				j.find("unsplit", "sign-in %q of user %q is in the input %d times and %d times in %s", id, user, times, j.split[user][id], j.signIns)
			}
		}
	}
	return nil
}

// The bounds of a profile, the defaults of state.max_ips and state.max_asns.
const (
	maxIPs  = 500
	maxASNs = 50
)
