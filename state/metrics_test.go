package state

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestAFolderThatWasNotClosedSaysSoToTheNextProcess(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs, narrow)
	if s.Metrics().PreviousUnclean {
		t.Error("a new folder says that it was not closed")
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced is there
	must(t, s.Close())
	if s = openMem(t, fs, narrow); s.Metrics().PreviousUnclean {
		t.Error("a folder that was closed says that it was not")
	}
	must(t, s.Close())

	s = openMem(t, crashed, narrow)
	if !s.Metrics().PreviousUnclean {
		t.Error("a crash is not noticed")
	}
	must(t, s.Close())
	if s = openMem(t, crashed, narrow); s.Metrics().PreviousUnclean {
		t.Error("a crash is told of again after a process that closed the folder")
	}
	must(t, s.Close())
}

func TestMetricsCountWhatPebbleHolds(t *testing.T) {
	s := openMem(t, vfs.NewMem(), narrow)
	defer func() { must(t, s.Close()) }()
	p := lease(t, s, 3)
	for i := range 100 {
		profile(t, p, fmt.Sprint("user", i)).See("192.0.2.1", "64500", 1000)
	}
	must(t, p.Commit(Checkpoint{}))
	if m := s.Metrics(); m.Entries != 0 || m.WrittenBytes != 0 || m.MemTableBytes == 0 {
		t.Errorf("before a flush: %+v", m)
	}
	must(t, s.Flush())
	var m Metrics
	must(t, soon(t, func() error {
		for m.Entries == 0 { // Pebble counts them in the background
			m = s.Metrics()
		}
		return nil
	}))
	if m.Entries != 101 || m.WrittenBytes == 0 || m.Flushes != 1 || m.ReadAmplification != 1 || m.WriteStalls != 0 { // with the checkpoint
		t.Errorf("after a flush: %+v", m)
	}
}

// A writer waits for the disk, is seen to, and has waited for so long once the disk is back.
func TestMetricsTellHowLongWritersWaitForTheDisk(t *testing.T) {
	waits, back := make(chan struct{}, 1), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
			<-back
		}
		return nil
	}))
	cfg := DefaultConfig()
	cfg.Dir, cfg.Cache = "state", minCache
	s, err := open(cfg, 335, slog.New(told{waits}), fs)
	must(t, err)
	s.batchBytes, s.tableBytes = 4<<20, math.MaxInt
	var before, amid Metrics
	go func() {
		<-waits
		before = s.Metrics()
		for amid.WriteStallTime <= before.WriteStallTime {
			amid = s.Metrics()
		}
		close(back)
	}()
	must(t, soon(t, func() error {
		p := lease(t, s, 3)
		for i := 0; s.Metrics().WriteStalls == 0; i++ {
			if err := p.Put(fmt.Append(nil, "user", i), make([]byte, 1<<20)); err != nil {
				return err
			}
		}
		return nil
	}))
	after := s.Metrics()
	if before.WriteStalls != 1 || after.WriteStalls != 1 || after.WriteStallTime < amid.WriteStallTime || after.WriteStallTime > time.Minute {
		t.Errorf("writers waited %+v, %+v, %+v", before, amid, after)
	}
	if again := s.Metrics(); again.WriteStallTime != after.WriteStallTime {
		t.Error("the time goes on when nobody waits")
	}
	must(t, soon(t, s.Close))
}
