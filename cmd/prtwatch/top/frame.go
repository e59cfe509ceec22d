package top

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rivo/uniseg"
)

// frame is all that is shown at a moment.
type frame struct {
	now        time.Time
	every      time.Duration
	rows       []row
	withAlerts bool
	alerts     []alert // the newest first
	noAlerts   string  // why there are none, or no new ones
}

// line is a line of a frame. It has no control characters.
type line struct {
	text  string
	style style
}

// style is how a line is drawn.
type style uint8

const (
	plain style = iota
	title
	faint
	warning
	alarm
)

// row is an instance in a frame.
type row struct {
	cells    []string // of columns
	style    style
	note     string
	answers  bool
	ready    bool
	figures  figures
	splitLag float64
	lag      float64
}

// columns are the titles of a row's cells; those that begin with < are on the left.
var columns = []string{
	"<INSTANCE", "<READY", "UP", "SIGN-INS/S", "ALERTS/MIN", "AGE P50", "P99", "LAG SPLIT", "LAG DETECT", "LAG AGE", "DEAD", "ERRORS",
	"<PARTITIONS", "RESTORE", "CACHE", "DISK", "<VERSION",
}

const nothing = "-"

// row is what is shown of the instance now.
func (in *instance) row(now time.Time) row {
	r, f := in.latest(), in.figures()
	out := row{figures: f, splitLag: math.NaN(), lag: math.NaN()}
	if in.err != nil {
		out.style, out.note = alarm, fmt.Sprintf("%s does not answer since %s: %s", in.name, in.silent.Format(time.TimeOnly), in.err)
		out.cells = make([]string, len(columns))
		for i := range out.cells {
			out.cells[i] = nothing
		}
		out.cells[0], out.cells[1] = in.name, "silent"
		if r == nil {
			return out
		}
		out.note += "; its figures are of " + r.at.Format(time.TimeOnly)
	} else {
		out.answers, out.ready, out.splitLag, out.lag = true, r.ready, r.splitLag, r.lag
	}
	ready := "yes"
	switch {
	case in.err != nil:
		ready = "silent"
	case !r.ready:
		ready, out.style = "no", warning
		out.note = in.name + " is not ready: " + r.waiting
	}
	splitLag := count(r.splitLag)
	if r.splits == 0 {
		splitLag = "standby"
	}
	restore := nothing
	if all := plus(r.restored, r.toRestore); !math.IsNaN(f.restored) && r.toRestore > 0 {
		restore = fmt.Sprintf("%.0f%% of %s", 100*f.restored, count(all))
	}
	out.cells = []string{
		in.name, ready, r.up(now), rate(f.perSecond), rate(f.perMinute), f.p50.String(), f.p99.String(),
		splitLag, count(r.lag), seconds(r.lagAge), count(r.letters), count(r.wrong), r.partitionsText(), restore, percent(f.hitRate), size(r.disk), r.version,
	}
	if in.err != nil {
		for i := 3; i < len(out.cells); i++ { // what was so, and may not be
			if out.cells[i] != nothing {
				out.cells[i] += "*"
			}
		}
	}
	return out
}

// up is for how long the process has been there.
func (r *reading) up(now time.Time) string {
	if r.started.IsZero() {
		return nothing
	}
	return span(now.Sub(r.started))
}

// partitionsText is how many there are in each state, those that run first.
func (r *reading) partitionsText() string {
	if len(r.partitions) == 0 {
		return count(r.leased)
	}
	text := count(r.partitions["running"]) + " running"
	for _, state := range []string{"restored", "restoring", "assigned"} {
		if n := r.partitions[state]; n > 0 {
			text += ", " + count(n) + " " + state
		}
	}
	return text
}

func count(n float64) string {
	switch {
	case math.IsNaN(n):
		return nothing
	case n >= 1e6:
		return strings.ReplaceAll(humanize.SIWithDigits(n, 1, ""), " ", "")
	}
	return humanize.Comma(int64(n))
}

func rate(n float64) string {
	switch {
	case math.IsNaN(n) || math.IsInf(n, 0):
		return nothing
	case n > 0 && n < 9.95:
		return fmt.Sprintf("%.1f", n)
	}
	return count(math.Round(n))
}

func percent(part float64) string {
	if math.IsNaN(part) {
		return nothing
	}
	return fmt.Sprintf("%.0f%%", 100*part)
}

func size(bytes float64) string {
	if math.IsNaN(bytes) {
		return nothing
	}
	return strings.ReplaceAll(humanize.IBytes(uint64(bytes)), " ", "")
}

func seconds(s float64) string {
	switch {
	case math.IsNaN(s):
		return nothing
	case s < .9995:
		return fmt.Sprintf("%.0fms", 1000*s)
	case s < 9.95:
		return fmt.Sprintf("%.1fs", s)
	}
	return span(time.Duration(s * float64(time.Second)))
}

// span is a time in its two largest units.
func span(d time.Duration) string {
	s := int64(d.Round(time.Second).Seconds())
	switch {
	case s < 0:
		return nothing
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

func (q quantile) String() string {
	if q.above {
		return ">" + seconds(q.value)
	}
	return seconds(q.value)
}

// lines are the frame in so many columns, and at most so many lines; 0 is as many as it takes.
func (f frame) lines(width, height int) []line {
	lines := []line{{f.sum(), title}, {}}
	lines = append(lines, f.table(width)...)
	for _, r := range f.rows {
		if r.note != "" {
			lines = append(lines, line{r.note, r.style})
		}
	}
	if f.withAlerts {
		room := alertsOnce
		if height > 0 {
			room = height - len(lines) - 3 // an empty one, the title, the last one
		}
		if room > 0 || f.noAlerts != "" {
			lines = append(append(lines, line{}), f.alertLines(width, room)...)
		}
	}
	if height > 0 {
		lines = lines[:min(len(lines), max(height-1, 0))]
		for len(lines) < height-1 {
			lines = append(lines, line{})
		}
		lines = append(lines, line{fmt.Sprintf("q ends; a frame each %s; ALERTS/MIN, AGE and CACHE are of the last minute", f.every), faint})
	}
	for i := range lines {
		lines[i].text = cut(strings.TrimRight(lines[i].text, " "), width)
	}
	return lines
}

// sum is the first line: all instances that answer.
func (f frame) sum() string {
	ready, perSecond, perMinute, splitLag, lag := 0, math.NaN(), math.NaN(), math.NaN(), math.NaN()
	for _, r := range f.rows {
		if !r.answers {
			continue
		}
		if r.ready {
			ready++
		}
		perSecond, perMinute = plus(perSecond, r.figures.perSecond), plus(perMinute, r.figures.perMinute)
		splitLag, lag = plus(splitLag, r.splitLag), plus(lag, r.lag)
	}
	return fmt.Sprintf("%s  %d of %d ready  %s sign-ins/s  %s alerts/min  lag %s split, %s detect",
		f.now.Format(time.TimeOnly), ready, len(f.rows), rate(perSecond), rate(perMinute), count(splitLag), count(lag))
}

// maxName is how much of an instance's name there is room for.
const maxName = 28

// table is the instances: where the columns do not fit, another table with the rest below.
func (f frame) table(width int) (lines []line) {
	widths := make([]int, len(columns))
	for i, name := range columns {
		widths[i] = textWidth(strings.TrimPrefix(name, "<"))
		for _, r := range f.rows {
			widths[i] = max(widths[i], textWidth(r.cells[i]))
		}
	}
	widths[0] = min(widths[0], maxName)
	for next := 1; next < len(columns); {
		shown, used := []int{0}, widths[0]
		for ; next < len(columns) && (len(shown) == 1 || width == 0 || used+2+widths[next] <= width); next++ {
			shown, used = append(shown, next), used+2+widths[next]
		}
		if len(lines) > 0 {
			lines = append(lines, line{})
		}
		lines = append(lines, line{f.cells(shown, widths, columns, true), title})
		for _, r := range f.rows {
			lines = append(lines, line{f.cells(shown, widths, r.cells, false), r.style})
		}
	}
	return lines
}

// cells is a line of a table.
func (f frame) cells(shown, widths []int, cells []string, titles bool) string {
	var b strings.Builder
	for _, i := range shown {
		text := cells[i]
		if titles {
			text = strings.TrimPrefix(text, "<")
		}
		text = cut(text, widths[i])
		pad := strings.Repeat(" ", max(0, widths[i]-textWidth(text)))
		if strings.HasPrefix(columns[i], "<") {
			b.WriteString(text + pad + "  ")
		} else {
			b.WriteString(pad + text + "  ")
		}
	}
	return b.String()
}

// textWidth is how many columns of a terminal a text takes.
func textWidth(text string) int { return uniseg.StringWidth(text) }

// cut cuts a text where it is wider than so much, and marks it; 0 is any width.
func cut(text string, width int) string {
	if width <= 0 || textWidth(text) <= width {
		return text
	}
	var b strings.Builder
	used := 1 // the mark
	for left := text; left != ""; {
		cluster, rest, w, _ := uniseg.FirstGraphemeClusterInString(left, -1)
		if used += w; used > width {
			break
		}
		b.WriteString(cluster)
		left = rest
	}
	return b.String() + "…"
}
