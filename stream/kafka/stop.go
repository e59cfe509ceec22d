package kafka

import (
	"context"
	"time"
)

// What a stage may still wait for brokers when it is told to stop, counted from that moment. A
// process has ten seconds to end; what is left of them is for closing its clients, which waits for
// no broker, and its state.
const (
	// WorkWithin is when what is in hand has to be committed. What is not is left to who takes
	// over: he splits it again, or learns from the topic how a transaction ended.
	WorkWithin = 4 * time.Second
	// LeaveWithin is when the groups have to know that we leave. Else others take over when the
	// session is over.
	LeaveWithin = 6 * time.Second
)

// After returns a context that is done so long after ctx is, with its values.
func After(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() { time.AfterFunc(within, end) })
	return later, func() { forget(); end() }
}
