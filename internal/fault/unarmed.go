//go:build !faults

package fault

// Pass tells that a step was done.
func Pass(Point) {}
