package kafka

import "time"

// Fencings tells a process that has taken our name in a consumer group (group.instance.id) from a
// request of our own that came twice.
//
// A static member whose connection breaks while it joins asks again, and the group, which has taken
// it in meanwhile, takes it for another one of its name: the member that it then is finds itself
// fenced. One that joins anew has its name again, for as long as nobody else wants it. A process that
// lives under the same name wants it each time. The zero value is ready for use; it belongs to one
// goroutine.
type Fencings struct {
	last [2]time.Time // the newest first
}

// fencingsWithin is how long after a fencing another one makes it likelier that both had one cause.
// Two processes of one name throw each other out within a second or two.
const fencingsWithin = 30 * time.Second

// Twin notes that we were fenced at now, and reports whether it was the third time within half a
// minute: then another process has our name, and came later.
func (f *Fencings) Twin(now time.Time) bool {
	twin := !f.last[1].IsZero() && now.Sub(f.last[1]) < fencingsWithin
	f.last[0], f.last[1] = now, f.last[0]
	return twin
}
