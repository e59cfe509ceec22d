package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prtwatch/prtwatch/cmd/bench/corpus"
	"github.com/prtwatch/prtwatch/cmd/bench/report"
)

// replayUsers makes for some 0.9 GB of JSON, which stays in the page cache.
const (
	replayUsers = 100
	quickReplay = 10
)

// replay measures `prtwatch replay` of a file against the JSON library alone.
func (b *bench) replay(ctx context.Context) error {
	users := replayUsers
	if b.quick {
		users = quickReplay
	}
	path := filepath.Join(b.dir, "replay.jsonl")
	c, err := b.replayFile(ctx, path, users)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var floor, ours, cpu report.Figure
	for range b.times {
		alone := exec.CommandContext(ctx, self, decodeCommand, path)
		alone.Env = append(os.Environ(), "GOMAXPROCS=1")
		took, _, err := timed(alone, fmt.Sprintln(c.SignIns))
		if err != nil {
			return err
		}
		floor = append(floor, float64(c.Bytes)/1e6/took.Seconds())
		var counts strings.Builder
		replayed := exec.CommandContext(ctx, b.binary, "replay", path)
		replayed.Stderr = &counts
		took, out, err := timed(replayed, "")
		if err != nil {
			return fmt.Errorf("%w: %s", err, &counts)
		}
		ours = append(ours, float64(c.Bytes)/1e6/took.Seconds())
		cpu = append(cpu, (replayed.ProcessState.UserTime() + replayed.ProcessState.SystemTime()).Seconds())
		if alerts := strings.Count(out, "\n"); alerts != len(c.Rows) {
			b.wrong = append(b.wrong, fmt.Sprintf("replay: %d alerts, %d rows of the query", alerts, len(c.Rows)))
		}
		b.logf("replay: goccy/go-json alone %.0f MB/s, prtwatch %.0f MB/s, %.2f s of CPU", floor[len(floor)-1], ours[len(ours)-1], cpu[len(cpu)-1])
	}
	b.sections = append(b.sections, fmt.Sprintf("## Replay of a file\n\n%d sign-ins in %.2f GB of JSON.\n\n", c.SignIns, float64(c.Bytes)/1e9)+
		report.Table([]string{"", "measured"}, [][]string{
			{"goccy/go-json alone, one core, MB/s", floor.Text(0)},
			{"prtwatch replay, MB/s", ours.Text(0)},
			{"its CPU, s", cpu.Text(2)},
		}))
	b.results = append(b.results, report.Result{Target: report.Replay, Value: ours.Over(floor)})
	return errors.Join(os.Remove(path))
}

// replayFile writes a corpus to a file, a message a line.
func (b *bench) replayFile(ctx context.Context, path string, users int) (c *corpus.Corpus, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(file, 1<<20)
	c, err = corpus.Make(ctx, corpus.Options{Users: users, Seed: b.seed, Samples: b.samples()}, lineWriter{out})
	return c, errors.Join(err, out.Flush(), file.Close())
}

// lineWriter is a corpus.Sink.
type lineWriter struct{ out *bufio.Writer }

func (l lineWriter) Write(message []byte, _ time.Time) error {
	_, _ = l.out.Write(message)
	return l.out.WriteByte('\n') // has the error of the write before, too
}

func (l lineWriter) Close(context.Context) error { return nil }

// timed runs a command and returns how long it took and what it printed, which must be as wanted
// where that is not empty.
func timed(cmd *exec.Cmd, wanted string) (time.Duration, string, error) {
	var out strings.Builder
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	switch {
	case err != nil:
		return took, "", fmt.Errorf("running %s %s: %w", filepath.Base(cmd.Path), cmd.Args[1], err)
	case wanted != "" && out.String() != wanted:
		return took, "", fmt.Errorf("running %s %s: it printed %q, not %q", filepath.Base(cmd.Path), cmd.Args[1], out.String(), wanted)
	}
	return took, out.String(), nil
}
