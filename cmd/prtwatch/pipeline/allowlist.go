package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/prtwatch/prtwatch/detector"
)

// lookEvery is how often the allowlist's files are looked at.
const lookEvery = 5 * time.Second

// allowlist is the allowlist in force. Its files are read again when one of them changes
// and on SIGHUP; what is wrong then is said, and the list that was in force stays.
type allowlist struct {
	files   []string
	current atomic.Pointer[detector.Allowlist]
	seen    []stamp // of the files as they were last read
	log     *slog.Logger

	ranges   prometheus.Gauge
	read     prometheus.Gauge
	upToDate prometheus.Gauge
	reloads  *prometheus.CounterVec
}

// stamp is by what a change of a file is noticed. A file that cannot be looked at has its
// error, so that it is said once and not each time.
type stamp struct {
	modified time.Time
	size     int64
	err      string
}

// openAllowlist reads the files. An error names file and line.
func openAllowlist(files []string, log *slog.Logger, registry prometheus.Registerer) (*allowlist, error) {
	a := &allowlist{
		files: files,
		log:   log,
		ranges: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prtwatch_allowlist_ranges", Help: "Ranges of the allowlist in force.",
		}),
		read: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prtwatch_allowlist_timestamp_seconds", Help: "When the allowlist in force was read.",
		}),
		upToDate: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prtwatch_allowlist_current", Help: "1 when the allowlist in force is that of its files, 0 when they have become unreadable.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prtwatch_allowlist_reloads_total", Help: "Times the allowlist's files were read again, by result.",
		}, []string{"result"}),
	}
	registry.MustRegister(a.ranges, a.read, a.upToDate, a.reloads)
	a.reloads.WithLabelValues("loaded")
	a.reloads.WithLabelValues("kept_old")
	a.seen = stamps(files)
	list, err := ReadAllowlist(files)
	if err != nil {
		return nil, err
	}
	a.use(list)
	return a, nil
}

// Get returns the list in force. It is safe for use by many goroutines.
func (a *allowlist) Get() *detector.Allowlist { return a.current.Load() }

func (a *allowlist) use(list *detector.Allowlist) {
	a.current.Store(list)
	a.ranges.Set(float64(list.Len()))
	a.read.SetToCurrentTime()
	a.upToDate.Set(1)
}

// watch reads the files again when they change, until ctx is done.
func (a *allowlist) watch(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			a.reload()
		case <-ticker.C:
			a.look()
		}
	}
}

// look reads the files again if one of them has changed.
func (a *allowlist) look() {
	if !slices.Equal(stamps(a.files), a.seen) {
		a.reload()
	}
}

// reload reads the files again. They are stamped before they are read: what changes
// meanwhile is another change.
func (a *allowlist) reload() {
	a.seen = stamps(a.files)
	list, err := ReadAllowlist(a.files)
	if err != nil {
		a.reloads.WithLabelValues("kept_old").Inc()
		a.upToDate.Set(0)
		a.log.Error("the allowlist has changed and cannot be read: the old one stays in force", "error", err)
		return
	}
	a.reloads.WithLabelValues("loaded").Inc()
	a.use(list)
	a.log.Info("the allowlist was read again", "files", strings.Join(a.files, ","), "ranges", list.Len())
}

func stamps(files []string) []stamp {
	var all []stamp
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			all = append(all, stamp{err: err.Error()})
			continue
		}
		all = append(all, stamp{modified: info.ModTime(), size: info.Size()})
	}
	return all
}

// ReadAllowlist reads the files of `detection.allowlist`. An error names file and line.
func ReadAllowlist(files []string) (*detector.Allowlist, error) {
	var sources []detector.Source
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return nil, fmt.Errorf("detection.allowlist: %s: %w; name a file that can be read, or take it off the list", name, err)
		}
		sources = append(sources, detector.Source{Name: name, Text: bytes.NewReader(text)})
	}
	return detector.ParseAllowlist(sources...)
}
