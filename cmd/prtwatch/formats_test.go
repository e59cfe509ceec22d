package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/state"
	"github.com/prtwatch/prtwatch/stream/signins"
)

// What each format leaves behind lies in a folder of its own, see testdata/formats/README.md. A
// folder is written once, by the last version that writes that format, and read by all later ones.
var (
	writeFormat   = flag.String("write-format", "", "write what prtwatch leaves behind to testdata/formats/`NAME`")
	formatProgram = flag.String("format-program", "", "with -write-format: the `PROGRAM` that leaves it behind")
)

const (
	formatsDir       = "testdata/formats"
	newestFormat     = "2" // what this version writes
	atLeastOnce      = "-at-least-once"
	formatPartitions = 3
)

func TestWriteWhatAFormatLeavesBehind(t *testing.T) {
	if *writeFormat == "" {
		t.Skip("it writes test data: see testdata/formats/README.md")
	}
	version, err := exec.Command(*formatProgram, "version").Output()
	if err != nil {
		t.Fatalf("-format-program: %v", err)
	}
	dir := filepath.Join(formatsDir, *writeFormat)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	told := story(time.Now())
	(&leaving{program: *formatProgram, version: string(version), delivery: deliveryOf(*writeFormat), story: told}).write(t, dir)
	learned := learned(told)
	l := &left{records: readLines[formatRecord](t, filepath.Join(dir, "records.jsonl"))}
	for _, r := range l.in("prtwatch.alerts") {
		var alert detector.Alert
		if err := json.Unmarshal(r.Value, &alert); err != nil {
			t.Fatal(err)
		}
		of := learned[string(r.Key)]
		of.Alerts = append(of.Alerts, alert.ID)
	}
	writeLines(t, filepath.Join(dir, "story.jsonl"), told...)
	writeLines(t, filepath.Join(dir, "profiles.json"), learned)
}

func deliveryOf(format string) string {
	if strings.HasSuffix(format, atLeastOnce) {
		return "at-least-once"
	}
	return "exactly-once"
}

// onItsOwn skips a test where it would run a second time: it has an embedded broker, whatever there is besides.
func onItsOwn(t *testing.T) {
	t.Helper()
	if os.Getenv(brokertest.Env) != "" {
		t.Skip("it takes no broker but its own: unset " + brokertest.Env)
	}
}

// eachFormat runs a test for each folder.
func eachFormat(t *testing.T, test func(t *testing.T, l *left)) {
	t.Helper()
	onItsOwn(t)
	folders, err := os.ReadDir(formatsDir)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, f := range folders {
		if f.IsDir() {
			names[f.Name()] = true
			t.Run(f.Name(), func(t *testing.T) {
				t.Parallel()
				test(t, readFormat(t, f.Name()))
			})
		}
	}
	for _, want := range []string{"1", "1" + atLeastOnce, newestFormat, newestFormat + atLeastOnce} {
		if !names[want] {
			t.Errorf("there is no %s", filepath.Join(formatsDir, want))
		}
	}
}

func openState(t *testing.T, dir string, log *bytes.Buffer) *state.Store {
	t.Helper()
	cfg := state.DefaultConfig()
	cfg.Dir, cfg.Cache = dir, 16<<20
	store, err := state.Open(cfg, detector.Window, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestAStateFolderOfEachFormatIsRead(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		var log bytes.Buffer
		store := openState(t, l.stateCopy(t), &log)
		defer store.Close()
		l.wantProfiles(t, store)
		if log.Len() > 0 { // that it was damaged, say
			t.Error(log.String())
		}
	})
}

func TestABaselineTopicOfEachFormatIsRead(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		var log bytes.Buffer
		store := openState(t, t.TempDir(), &log)
		defer store.Close()
		for p := range int32(formatPartitions) {
			lease, err := store.Lease(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range l.in("prtwatch.baseline") {
				if r.Partition == p {
					err = errors.Join(err, lease.Put(r.Key, state.Bare(r.Value)))
				}
			}
			if err := errors.Join(err, lease.Restored(state.Checkpoint{Offset: 1}), lease.Release()); err != nil {
				t.Fatal(err)
			}
		}
		l.wantProfiles(t, store)
	})
}

// An upgrade: what the format's program left is judged on by this version, with the state folder as it was, and with
// the state restored from the topic. Either way the alerts are the query's rows over all that ever came, each once.
func TestThisVersionGoesOnWhereEachFormatStopped(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *left) {
		withState := l.goOn(t, l.stateCopy(t), func(i *instance) {
			if n := i.metric("prtwatch_restore_records_total"); n > 0 {
				t.Errorf("%v records were restored though the state folder has them", n)
			}
		})
		restored := l.goOn(t, t.TempDir(), func(i *instance) {
			if n := i.metric("prtwatch_restore_records_total"); n == 0 {
				t.Error("nothing was restored")
			}
		})
		if !maps.EqualFunc(withState, restored, func(x, y []*kgo.Record) bool { return slices.EqualFunc(x, y, sameRecord) }) {
			t.Errorf("other alerts with the state folder (%d) than with what is restored (%d)", len(withState), len(restored))
		}
	})
}

// goOn runs this version on what the format's program left, until all is judged that waited or comes next.
func (l *left) goOn(t *testing.T, stateDir string, look func(*instance)) (alerts map[string][]*kgo.Record) {
	t.Helper()
	in := newFormatInstallation(t, l.broker(t), l.about.Delivery)
	for _, phase := range []string{"judged", "waiting"} {
		for _, s := range inPhase(l.story, phase) {
			if err := in.query.Add(s.record()); err != nil {
				t.Fatal(err)
			}
		}
	}
	in.write(inPhase(l.story, "next"), 3)
	i := in.start(stateDir)
	in.judged(i)
	look(i)
	i.stop()
	for _, unwanted := range []string{"of no use", "damaged", "level=WARN", "level=ERROR"} {
		if strings.Contains(i.log.String(), unwanted) {
			t.Errorf("the log says %q:\n%s", unwanted, i.log)
		}
	}
	l.wantSourcesKept(t, in)
	c := in.compare()
	if c.rows < 6 || len(c.missing)+len(c.repeated)+len(c.madeUp) > 0 {
		t.Errorf("of %d rows of the query %q are missing, %q came more than once, %q are made up", c.rows, c.missing, c.repeated, c.madeUp)
	}
	in.wantNoLetters()
	return c.alerts
}

// wantSourcesKept checks that the offsets of the input were believed: their sources have the numbers of before,
// by which what is split again is known.
func (l *left) wantSourcesKept(t *testing.T, in *installation) {
	t.Helper()
	offsets, err := in.b.Admin().FetchOffsets(t.Context(), splitGroup)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.offsets {
		if o.Group != splitGroup {
			continue
		}
		source := strings.Fields(o.Metadata)[6]
		if now, _ := offsets.Lookup(o.Topic, o.Partition); !slices.Contains(strings.Fields(now.Metadata), source) {
			t.Errorf("%s/%d: the source %s is given up: %s", o.Topic, o.Partition, source, now.Metadata)
		}
	}
}

func (in *installation) wantNoLetters() {
	in.t.Helper()
	if letters := in.b.ReadAll("prtwatch.dead-letter"); len(letters) > 0 {
		in.t.Errorf("%d dead letters, the first with headers %v", len(letters), letters[0].Headers)
	}
}

// What this version leaves behind is what the newest folder has. Where it is not, the format has changed: raise its
// version, go on reading the old one, and write a folder for the new one; testdata/formats/README.md says how.
func TestThisVersionLeavesBehindWhatTheNewestFormatHas(t *testing.T) {
	onItsOwn(t)
	for _, name := range []string{newestFormat, newestFormat + atLeastOnce} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := readFormat(t, name)
			dir := t.TempDir()
			(&leaving{delivery: l.about.Delivery, story: l.story, inputs: l.in("insights-logs-noninteractiveusersigninlogs"), last: l.about.Judged}).write(t, dir)
			now := &left{
				dir: dir, records: readLines[formatRecord](t, filepath.Join(dir, "records.jsonl")),
				offsets: readLines[formatOffset](t, filepath.Join(dir, "offsets.jsonl")),
			}
			l.wantTicks(t)
			got, want := now.shape(t), l.shape(t)
			for what, shape := range want {
				if got[what] != shape {
					t.Errorf("%s is written as\n %s\nand was as\n %s", what, got[what], shape)
				}
				delete(got, what)
			}
			for what := range got {
				t.Errorf("%s is written, and was not", what)
			}
		})
	}
}

// wantTicks checks that this version writes a tick as the folder has it, without the minute that the next one takes.
func (l *left) wantTicks(t *testing.T) {
	t.Helper()
	ticks := 0
	for _, r := range l.in("prtwatch.signins") {
		kept := r.record()
		if kind, control := signins.ControlOf(kept.Headers); !control || kind != signins.KindTick {
			continue
		}
		ticks++
		tick, err := signins.DecodeTick(kept.Value)
		if err != nil {
			t.Fatal(err)
		}
		now := tick.Record()
		now.Partition = kept.Partition
		if !sameRecord(now, kept) {
			t.Errorf("a tick is written as %x, %v, and was as %x, %v", now.Value, now.Headers, kept.Value, kept.Headers)
		}
	}
	if ticks == 0 {
		t.Error("the folder has no tick")
	}
}

// shape is all that a version leaves behind but for what chance and the clock put there: numbers of
// sources, ids of topics, offsets in transactions. Ticks are not in it.
func (l *left) shape(t *testing.T) map[string]string {
	t.Helper()
	shape := make(map[string]string)
	for _, r := range l.records {
		what := fmt.Sprintf("%s/%d %s", r.Topic, r.Partition, r.Key)
		value := r.Value
		var headers []string
		for _, h := range r.Headers {
			headers = append(headers, h.Key+"="+masked(string(h.Value)))
		}
		switch r.Topic {
		case "insights-logs-noninteractiveusersigninlogs":
			continue
		case "prtwatch.signins":
			if _, control := signins.ControlOf(r.record().Headers); control {
				continue // see wantTicks
			}
			var s detector.SignIn
			if err := signins.Decode(value, &s); err != nil {
				t.Fatal(err)
			}
			what += fmt.Sprint(s.ID, s.Generated)
			value = bytes.Clone(value)
			copy(value[4:], "....") // version, tag, length, and then the number of the source
		case "prtwatch.alerts":
			var alert detector.Alert
			if err := json.Unmarshal(value, &alert); err != nil {
				t.Fatal(err)
			}
			what += alert.SignIn.ID
		case "prtwatch.baseline": // the last one of a user counts
			value = bare(value)
		}
		shape[what] = fmt.Sprintf("%x %s", value, headers)
	}
	for _, o := range l.offsets {
		what := fmt.Sprintf("offset of %s in %s/%d", o.Group, o.Topic, o.Partition)
		var fields []string
		for _, field := range strings.Fields(o.Metadata) {
			fields = append(fields, masked(field))
		}
		shape[what] = strings.Join(fields, " ")
	}
	for key, value := range pebbleShape(t, l.stateCopy(t)) {
		shape["state "+key] = value
	}
	return shape
}

var (
	numbers = regexp.MustCompile(`^-?[0-9]+$`)
	longOne = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{10,}$`)
)

// masked is a field of text but for what is an id, a number or encoded.
func masked(field string) string {
	switch {
	case numbers.MatchString(field):
		return "number"
	case longOne.MatchString(field) && !strings.HasPrefix(field, "prtwatch"):
		return "text"
	}
	return field
}

// bare is a profile without the number of the offset that it carries, though not without that it does.
func bare(value []byte) []byte {
	if state.Carried(value) == 0 {
		return value
	}
	return append(state.Bare(value), " carries"...)
}

// pebbleShape is what a state folder holds, by its keys: profiles, and of checkpoints, which name topics and
// offsets, the version alone.
func pebbleShape(t *testing.T, dir string) map[string]string {
	t.Helper()
	shape := make(map[string]string)
	for key, value := range pebbleEntries(t, dir) {
		what := hex.EncodeToString([]byte(key))
		if key[4] == 1 {
			shape[what] = hex.EncodeToString(bare(value))
		} else {
			shape[what] = fmt.Sprintf("version %d", value[0])
		}
	}
	format, err := os.ReadFile(filepath.Join(dir, "format"))
	if err != nil {
		t.Fatal(err)
	}
	shape["format"] = string(format)
	return shape
}
