// Package report turns what was measured into Markdown: medians with their spread, ratios, the
// machine, and whether each target is met. It owns the targets (target.go). It must not measure.
//
// Start at Figure.
package report

import (
	"fmt"
	"math"
	"slices"
)

// Figure is one quantity, measured some times.
type Figure []float64

// Median is the middle value, of an even number the mean of the two in the middle; NaN of none.
func (f Figure) Median() float64 {
	if len(f) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(f))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}

// Over divides each value by the one of the same turn, so that what slowed the machine in a turn
// slowed both. Turns that only one of them has are left out, as are those without a divisor.
func (f Figure) Over(g Figure) Figure {
	var ratios Figure
	for i := range min(len(f), len(g)) {
		if g[i] != 0 {
			ratios = append(ratios, f[i]/g[i])
		}
	}
	return ratios
}

// Text is the median, and with more than one value the least and the greatest after it.
func (f Figure) Text(digits int) string {
	switch len(f) {
	case 0:
		return ""
	case 1:
		return number(f[0], digits)
	}
	return fmt.Sprintf("%s (%s-%s)", number(f.Median(), digits), number(slices.Min(f), digits), number(slices.Max(f), digits))
}

// number writes a number with so many digits after the point, and commas between thousands.
func number(x float64, digits int) string {
	text := fmt.Sprintf("%.*f", digits, x)
	if math.Abs(x) < 1000 || math.IsInf(x, 0) || math.IsNaN(x) {
		return text
	}
	whole := len(text)
	if digits > 0 {
		whole -= digits + 1
	}
	for at := whole - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Percentile is the value below or at which that share of the sorted values lies (nearest rank);
// 0 of none. share is within 0 and 1.
func Percentile[T any](sorted []T, share float64) (value T) {
	if len(sorted) == 0 {
		return value
	}
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
