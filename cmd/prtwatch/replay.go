package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/export"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/pipeline"
	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
)

func (p *program) replayCommand() *cobra.Command {
	var deadLetter string
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "judge exported sign-ins, without Kafka",
		Long: `Judges the sign-ins of the files, in the order of the files (- is standard input), from an empty
baseline, and prints the alerts, one JSON a line. Counts go to standard error.

Files may be compressed by gzip or zstd. A line is an Event Hubs message ({"records": [...]}), a
bare record or an array of records; a document that is spread over lines works too.

What cannot be read is counted. With --dead-letter it is kept as well, a JSON object a line:
  {"file": ..., "line": ..., "record": ..., "reason": ..., "detail": ..., "text": ...}
line is where the message, or in a document the record, begins; record is its index there, absent
where the message itself is unreadable. Bytes that are not UTF-8 are in base64, in place of text.
When the cause is gone (jq -r .text brings the bytes back) they can be replayed.`,
		Example: `  prtwatch replay export-1.jsonl.gz export-2.jsonl.gz > alerts.jsonl
  kcat -C -e -t insights-logs-noninteractiveusersigninlogs | prtwatch replay - --set detection.allowlist=offices.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("replay: a file is missing: prtwatch replay FILE..., - for standard input")
			}
			return nil
		},
		RunE: does(func(ctx context.Context, args []string) error { return p.replay(ctx, args, deadLetter) }),
	}
	cmd.Flags().StringVar(&deadLetter, "dead-letter", "", "write what cannot be read to this `FILE`")
	return cmd
}

// commitEvery is after how many sign-ins the profiles that changed are written to Pebble:
// until then they are held in memory.
const commitEvery = 5000

// replay judges the files.
func (p *program) replay(ctx context.Context, names []string, deadLetter string) (err error) {
	s, err := p.settings()
	if err != nil {
		return err
	}
	log := newLogger(s.Log, p.stderr)
	allowed, err := pipeline.ReadAllowlist(s.Detection.Allowlist)
	if err != nil {
		return wrong(err)
	}
	files, err := openFiles(names, untilDone(ctx, p.stdin))
	if err != nil {
		return wrong(err)
	}
	defer closeAll(files)
	letters, err := openDeadLetters(deadLetter, names)
	if err != nil {
		return wrong(err)
	}
	defer func() { err = errors.Join(err, letters.close()) }()

	r, err := newReplay(ctx, s, allowed, log, p.stdout, letters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	stopBar := p.showProgress("reading", files)
	err = r.readAll(files)
	stopBar()
	r.counts.print(p.stderr)
	if err := quietPipe(err); !errors.Is(err, errSignal) {
		return err
	}
	return fmt.Errorf("replay: %w before the end: the alerts and counts are those of what was read", errSignal)
}

// openFiles opens all before any is read, so that a wrong name is said at once.
func openFiles(names []string, stdin io.Reader) ([]*export.File, error) {
	var files []*export.File
	var problems []error
	for i, name := range names {
		f, err := export.Open(name, stdin)
		if name == "-" && slices.Contains(names[:i], "-") {
			err = errors.New("-: standard input is named twice; it can be read once")
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		files = append(files, f)
	}
	if len(problems) > 0 {
		closeAll(files)
	}
	return files, errors.Join(problems...)
}

// untilDone reads from r until ctx is done, then fails with its cause. A read of a terminal
// or a pipe that waits for more cannot be ended, only left behind.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	reader, writer := io.Pipe()
	var begin sync.Once
	return readerFunc(func(p []byte) (int, error) {
		begin.Do(func() {
			context.AfterFunc(ctx, func() { writer.CloseWithError(context.Cause(ctx)) })
			go func() {
				_, err := io.Copy(writer, r)
				writer.CloseWithError(err)
			}()
		})
		return reader.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func closeAll(files []*export.File) {
	for _, f := range files {
		f.Close()
	}
}

// replay judges what its reader finds. It is one goroutine.
type replay struct {
	reader   *export.Reader
	detector *detector.Detector
	allowed  *detector.Allowlist
	store    *state.Store
	profiles *state.Partition
	out      *bufio.Writer
	letters  *deadLetters
	counts   *counts
	file     string
	err      error // the first; it ends the reading
}

// newReplay makes one with a temporary store.
func newReplay(ctx context.Context, s *settings.Settings, allowed *detector.Allowlist, log *slog.Logger, out io.Writer, letters *deadLetters) (*replay, error) {
	judge, err := detector.New(s.Detection)
	if err != nil {
		return nil, wrong(err)
	}
	store, err := state.OpenTemporary(s.State, detector.Window, log)
	if err != nil {
		return nil, err
	}
	profiles, err := store.Lease(ctx, 0)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	r := &replay{
		detector: judge, allowed: allowed, store: store, profiles: profiles,
		out: bufio.NewWriterSize(out, 64<<10), letters: letters, counts: newCounts(),
	}
	r.reader = export.NewReader(export.Visitor{
		SignIn:     r.signIn,
		Unreadable: r.unreadable,
		Skipped:    func(n int) { r.counts.skipped += n },
		Stop:       func() error { return r.stop(ctx) },
	})
	return r, nil
}

// readAll reads the files in their order.
func (r *replay) readAll(files []*export.File) error {
	for _, f := range files {
		r.file = f.Name
		err := r.reader.Read(f)
		f.Close() // not only at the end: there may be hundreds
		if err == nil {
			err = r.err // of the last message
		}
		if form := (*export.FormError)(nil); errors.As(err, &form) {
			err = wrong(err)
		}
		if err != nil {
			return errors.Join(err, quietPipe(r.out.Flush()))
		}
	}
	return r.out.Flush()
}

// signIn judges one. Its Arrived is zero, so no time is clamped.
func (r *replay) signIn(s *detector.SignIn) {
	if r.err != nil {
		return
	}
	profile, err := r.profiles.Profile(r.detector.UserKey(s))
	if err != nil {
		r.err = err
		return
	}
	v := r.detector.Judge(s, r.allowed, profile)
	r.counts.add(s, v)
	if v.Alert != nil {
		_, _ = r.out.Write(v.Alert.JSON())
		r.err = r.out.WriteByte('\n') // has the error of the write before, too
	}
	if r.counts.signIns%commitEvery == 0 {
		r.err = errors.Join(r.err, r.profiles.Commit(state.Checkpoint{Offset: int64(r.counts.signIns)}))
	}
}

func (r *replay) unreadable(u export.Unreadable) {
	r.counts.unreadable[u.Reason]++
	if r.err == nil {
		r.err = r.letters.write(r.file, u)
	}
}

// stop is what ends the reading early.
func (r *replay) stop(ctx context.Context) error {
	if r.err == nil && ctx.Err() != nil {
		r.err = context.Cause(ctx)
	}
	return r.err
}

// close removes the store.
func (r *replay) close() error {
	return errors.Join(r.profiles.Release(), r.store.Close())
}
