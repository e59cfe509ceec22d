package detect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A member is known to the group by a name that outlives the process (group.instance.id), so that
// one that was killed has its partitions again as soon as it is back. Of two that come under one
// name the later wins, and the earlier ends with a message.
//
// Under the classic protocol the group sees to that. Under the consumer protocol (KIP-848) it
// refuses whoever comes, until the session of the one who is gone is over (45 s by the brokers'
// default), and cannot say whether that one lives. So a process that starts has the group forget
// whoever has its names, and a member says goodbye to each session that it gives up. Who is refused
// all the same asks who has its name: it may be a session of its own that the group was not told of,
// or one that it was told of before the last request of it arrived, or even the one that is being
// refused, where the answer to its first attempt was lost. All others are another process, that has
// come under its name since; or that was there before and joined again, when it was forgotten, sooner
// than the one that had the group forget it: that one, which the group never knew, insists.

// goodbyeWithin bounds what a group is told of a session that is over while the process goes on.
const goodbyeWithin = 3 * time.Second

// takeNames has the group forget predecessors of this process that did not say goodbye.
func (s *Stage) takeNames(ctx context.Context, client *kgo.Client, admin *kadm.Client) error {
	if s.cfg.GroupProtocol != Consumer {
		return nil
	}
	holders, err := nameHolders(ctx, admin, s.cfg.Group)
	if err != nil {
		return err
	}
	for _, m := range s.members {
		id, held := holders[m.name]
		if !held {
			continue
		}
		if err := m.depart(ctx, client, m.name, id); err != nil {
			return fmt.Errorf("taking the name %s over in group %s: %w", m.name, s.cfg.Group, err)
		}
		s.deps.Log.Info("taking over from a member that did not say goodbye", "name", m.name)
	}
	return nil
}

// nameHolders returns the member ids of those who have a name in the group, by that.
func nameHolders(ctx context.Context, admin *kadm.Client, group string) (map[string]string, error) {
	described, err := admin.DescribeConsumerGroups(ctx, group)
	if err == nil {
		err = described[group].Err
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound), errors.Is(err, kerr.UnsupportedVersion):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("asking who is in group %s: %w", group, err)
	}
	holders := make(map[string]string)
	for _, m := range described[group].Members {
		if m.InstanceID != nil {
			holders[*m.InstanceID] = m.MemberID
		}
	}
	return holders, nil
}

// leave tells the group that the members are gone for good. A static member says nothing
// when its client closes, and its partitions would lie idle for a session timeout. Where
// another process took our names there is nothing to leave but its place. No client may be
// able to join any more: what it had under way would come after the goodbye.
func (s *Stage) leave(ctx context.Context, client *kgo.Client, admin *kadm.Client) {
	var goodbyes sync.WaitGroup
	for _, m := range s.members {
		goodbyes.Go(func() { m.goodbye(ctx, client) })
	}
	goodbyes.Wait()
	var names []string
	for _, m := range s.members {
		if m.fenced {
			return
		}
		if m.cfg.GroupProtocol != Consumer || len(m.ids.untold()) > 0 { // else it has said goodbye
			names = append(names, m.name)
		}
	}
	if len(names) == 0 {
		return
	}
	leaving := kadm.LeaveGroup(s.cfg.Group).Reason("shutting down").InstanceIDs(names...)
	if _, err := admin.LeaveGroup(ctx, leaving); err != nil {
		s.deps.Log.Warn("leaving the group; others take over after the session timeout",
			"group", s.cfg.Group, "error", err)
	}
}

// goodbye ends what sessions the group may still have of us under the consumer protocol.
func (m *member) goodbye(ctx context.Context, client *kgo.Client) {
	for _, id := range m.ids.untold() {
		if err := m.depart(ctx, client, m.name, id); err != nil {
			m.log.Debug("leaving the group", "member_id", id, "error", err)
			continue
		}
		m.ids.told(id)
	}
}

// manyTakeovers is how often a member that the group never knew takes its name from another process.
const manyTakeovers = 5

// manyIDs is how many ids are kept of sessions that the group was told of.
const manyIDs = 16

// memberIDs are the ids under which the group may know a member of the consumer protocol. Its client makes them up,
// and another one where the group refuses that: of a join whose answer was lost the group knows the first. The
// client's hook writes them down as they are sent, for the group may know what the member never came to see.
type memberIDs struct {
	mu struct {
		sync.Mutex
		current string          // empty where it has none
		past    map[string]bool // whether the group has yet to be told that it is over
	}
}

// is notes that the member is known by id from now on, by none where that is empty, and no longer by the one of
// before.
func (i *memberIDs) is(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	past := i.mu.current
	if id == past {
		return
	}
	i.mu.current = id
	if past == "" {
		return
	}
	if len(i.mu.past) >= manyIDs {
		maps.DeleteFunc(i.mu.past, func(_ string, untold bool) bool { return !untold })
	}
	if i.mu.past == nil {
		i.mu.past = make(map[string]bool)
	}
	i.mu.past[past] = true
}

// has reports whether an id is or was the member's.
func (i *memberIDs) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, past := i.mu.past[id]
	return past || id == i.mu.current
}

// untold returns those that are over, of which the group has yet to be told.
func (i *memberIDs) untold() (ids []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, untold := range i.mu.past {
		if untold {
			ids = append(ids, id)
		}
	}
	return ids
}

// told notes that the group knows that an id is over.
func (i *memberIDs) told(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mu.past[id] = false
}

// depart has the group forget a member id that has a name; it is no error where it has none any
// more.
func (m *member) depart(ctx context.Context, client *kgo.Client, name, id string) error {
	request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	request.Group, request.InstanceID, request.MemberID = m.cfg.Group, &name, id
	request.MemberEpoch = -1 // for good; a static member's client would say -2, and its partitions wait
	response, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	for _, gone := range []error{kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.GroupIDNotFound} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// taken is called when the group refuses us our name. It reports whether another process has it; a
// session of ours that has it ends, and the client tries again.
func (m *member) taken() bool {
	ctx, cancel := context.WithTimeout(m.limit, goodbyeWithin)
	defer cancel()
	holders, err := nameHolders(ctx, m.admin, m.cfg.Group)
	id, held := holders[m.name]
	if err != nil || !held {
		return false // as far as anyone can tell
	}
	if !m.ids.has(id) {
		if m.roster.known() || m.takeovers == manyTakeovers {
			return true
		}
		m.takeovers++
		m.log.Info("taking over from a member that came back", "name", m.name)
	}
	if err := m.depart(ctx, m.asking, m.name, id); err != nil {
		m.log.Debug("leaving the group", "member_id", id, "error", err)
	}
	return false
}
