package state

import (
	"sync/atomic"
	"time"
)

// stalls is how often, and for how long, Pebble made writers wait for the disk. One waits at a
// time: Pebble's commits come one after the other there.
type stalls struct {
	count atomic.Uint64
	took  atomic.Int64 // nanoseconds, of those that are over
	began atomic.Int64 // Unix nanoseconds of the one that is not; 0: none
}

func (s *stalls) begin() {
	s.count.Add(1)
	s.began.Store(time.Now().UnixNano())
}

func (s *stalls) end() {
	if began := s.began.Swap(0); began != 0 {
		s.took.Add(time.Now().UnixNano() - began)
	}
}

// sum is how long writers have waited, with the one that does now.
func (s *stalls) sum() time.Duration {
	took := s.took.Load()
	if began := s.began.Load(); began != 0 {
		took += max(0, time.Now().UnixNano()-began)
	}
	return time.Duration(took)
}
