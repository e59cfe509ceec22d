package tenant

// queue is a binary heap by time; of what has the same time the lower number goes first, so
// that the order never depends on how the heap came about.
type queue[T any] []queued[T]

type queued[T any] struct {
	at  int64
	seq uint64
	it  T
}

func (a queued[T]) before(b queued[T]) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// min returns the time of the first, and whether there is one.
func (q *queue[T]) min() (int64, bool) {
	if len(*q) == 0 {
		return 0, false
	}
	return (*q)[0].at, true
}

func (q *queue[T]) push(at int64, seq uint64, it T) {
	h := append(*q, queued[T]{at, seq, it})
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
	*q = h
}

func (q *queue[T]) pop() T {
	h := *q
	top := h[0].it
	end := len(h) - 1
	h[0] = h[end]
	h[end] = queued[T]{}
	h = h[:end]
	for i := 0; ; {
		child := 2*i + 1
		if child >= end {
			break
		}
		if child+1 < end && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(h[i]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return top
}
