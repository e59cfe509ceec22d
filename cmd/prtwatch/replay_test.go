package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/prtwatch/prtwatch/internal/oracle"
	"github.com/prtwatch/prtwatch/internal/tenant"
)

// corpus makes messages of a tenant until enough says so, and tells each record to see.
func corpus(tb testing.TB, o tenant.Options, w io.Writer, enough int, see func([]byte)) {
	tb.Helper()
	made, err := tenant.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	line := func(message []byte) {
		if message != nil {
			_, _ = out.Write(append(message, '\n'))
		}
	}
	var packer tenant.Packer
	for range enough {
		s, more := made.Next()
		if !more {
			break
		}
		if see != nil {
			see(s.Record)
		}
		line(packer.Add(s.Record))
	}
	line(packer.Flush())
	if err := out.Flush(); err != nil {
		tb.Fatal(err)
	}
}

// alertedIDs are the sign-in ids of the alerts, sorted. Each is held against the schema.
func alertedIDs(tb testing.TB, alerts string) []string {
	tb.Helper()
	schema := alertSchema(tb)
	ids := []string{}
	for line := range strings.Lines(alerts) {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			tb.Fatalf("%v in %s", err, line)
		}
		var a struct {
			SignIn struct{ ID string } `json:"sign_in"`
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			tb.Fatalf("%v in %s", err, line)
		}
		ids = append(ids, a.SignIn.ID)
	}
	slices.Sort(ids)
	return ids
}

// rowIDs are the ids of the query's rows, sorted, each once.
func rowIDs(q *oracle.Query) []string {
	ids := []string{}
	for _, row := range q.Rows() {
		ids = append(ids, row.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestReplayFindsTheRowsOfTheQuery(t *testing.T) {
	for seed := range uint64(4) {
		o := tenant.Options{Users: 12, Days: 20, Seed: seed, Shape: tenant.Mixed, PerUserDay: 15, Odd: 0.2, Thefts: 20}
		query, err := oracle.New(oracle.Options{OpenFarEdge: true, Allowlist: []string{"198.18.0.0/18"}})
		if err != nil {
			t.Fatal(err)
		}
		unreadable := 0
		var text bytes.Buffer
		corpus(t, o, &text, 1<<30, func(record []byte) {
			if query.Add(record) != nil {
				unreadable++
			}
		})
		allow := file(t, "allow.txt", "198.18.0.0/18 # the offices\n")
		got := prtwatch(text.String(), "replay", "-", "--set", "detection.allowlist="+allow)
		if got.code != exitDone {
			t.Fatal(got.stderr)
		}
		want := rowIDs(query)
		if ids := alertedIDs(t, got.stdout); !slices.Equal(ids, want) {
			t.Errorf("seed %d: %d alerts, %d rows", seed, len(ids), len(want))
		}
		for _, line := range []string{
			fmt.Sprintf("sign-ins:   %d from 2026-11-02T", query.Added()),
			fmt.Sprintf("alerts:     %d (", len(want)),
			fmt.Sprintf("skipped:    %d of other categories", query.Skipped()),
		} {
			if !strings.Contains(got.stderr, line) {
				t.Errorf("seed %d: %q is not in:\n%s", seed, line, got.stderr)
			}
		}
		if len(want) < 10 {
			t.Errorf("seed %d: %d rows say little", seed, len(want))
		}
	}
}

func TestReplayReadsEveryRealRecord(t *testing.T) {
	const samples = "../../stream/entra/testdata/"
	got := prtwatch("", "replay", samples+"non_interactive_user_sign_in_logs.jsonl", samples+"sign_in_logs.jsonl")
	for _, want := range []string{"sign-ins:   14 ", "skipped:    5 ", "unreadable: 0\n"} {
		if got.code != exitDone || !strings.Contains(got.stderr, want) {
			t.Errorf("%q is not in:\n%s", want, got.stderr)
		}
	}
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	if testing.Short() || raceDetected() {
		t.Skip("-short or -race")
	}
	// So many users, most of them seen once, that their profiles have to be on disk. The query
	// would take ten times as long as the replay; TestReplayFindsTheRowsOfTheQuery asks it.
	const signIns = 200_000
	cmd := process(t, "replay", "-", "--set", "state.cache=16MiB")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n, early := 0, int64(0)
	corpus(t, tenant.Options{Users: 100_000, Days: 1, Seed: 7}, stdin, signIns, func([]byte) {
		if n++; n == signIns/4 {
			early = mostMemory(t, cmd)
		}
	})
	late := mostMemory(t, cmd) // all but what is in the pipe has been judged
	stdin.Close()
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), fmt.Sprintf("sign-ins:   %d ", signIns)) { // a slow disk is told before
		t.Fatalf("%v: %s", err, &stderr)
	}
	t.Logf("after a quarter %d MiB, after all %d MiB", early>>20, late>>20)
	if late > early+early/4 {
		t.Errorf("memory grew from %d MiB after a quarter to %d MiB", early>>20, late>>20)
	}
	if names := leftBehind(t, cmd); len(names) > 0 {
		t.Errorf("it left %q behind", names)
	}
}

// mostMemory is the most memory that the process has held so far. (What its rusage says at
// the end begins with the memory of the test, from which it was forked.)
func mostMemory(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here:", err)
	}
	var kib int64
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func TestASignalEndsReplayCleanly(t *testing.T) {
	cmd := process(t, "replay", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, _ := pipes(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// When the last of it is in the pipe most has been judged; and it waits for more.
	corpus(t, tenant.Options{Users: 5, Days: 15}, stdin, 6000, nil)
	endBySignal(t, cmd, exitFailed)
	if names := leftBehind(t, cmd); len(names) > 0 {
		t.Errorf("it left %q behind", names)
	}
	if text := stderr.String(); !strings.Contains(text, "sign-ins:   ") || !strings.Contains(text, "prtwatch: replay: ended by a signal before the end") {
		t.Errorf("%s", text)
	}
}

func pipes(t *testing.T, cmd *exec.Cmd) (io.WriteCloser, io.Reader) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return stdin, stdout
}

// endBySignal interrupts the process, twice at once as timeout(1) does, and expects it to
// end soon with the code.
func endBySignal(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	begun := time.Now()
	for range 2 {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait()
	if got, took := cmd.ProcessState.ExitCode(), time.Since(begun); got != code || took > 5*time.Second {
		t.Errorf("exit code %d, not %d, after %s", got, code, took)
	}
}

func TestAReaderThatGoesAwayIsNoError(t *testing.T) {
	cmd := process(t, "replay", "-", "--set", "detection.resources=Microsoft,Office,Windows")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, stdout := pipes(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.(io.Closer).Close()
	corpus(t, tenant.Options{Users: 500, Days: 1}, noError{stdin}, 20_000, nil) // it may stop reading
	stdin.Close()
	if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), "prtwatch:") {
		t.Errorf("%v: %s", err, &stderr)
	}
	if names := leftBehind(t, cmd); len(names) > 0 {
		t.Errorf("it left %q behind", names)
	}
}

func TestWhatCannotBeReadIsCountedAndKept(t *testing.T) {
	good := `{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"id":"1"}}`
	bad := `{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"note":"<no id>"}}`
	in := file(t, "in.jsonl", good+"\nhello \xff\n"+`{"records":[`+good+","+bad+"]}\n"+good[:40]+"\n"+good)
	out := filepath.Join(t.TempDir(), "dead.jsonl")
	got := prtwatch("", "replay", in, "--dead-letter", out)
	if got.code != exitDone || !strings.Contains(got.stderr, "sign-ins:   3 ") || !strings.Contains(got.stderr, "unreadable: 3 (malformed_json 1, missing_id 1, not_a_record 1)\n") {
		t.Errorf("%+v", got)
	}
	kept, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(kept)), "\n")
	for i, want := range []deadLetter{
		{File: in, Line: 2, Reason: "not_a_record", Base64: []byte("hello \xff")},
		{File: in, Line: 3, Record: new(int), Reason: "missing_id", Text: &bad},
		{File: in, Line: 4, Reason: "malformed_json", Text: ptr(good[:40])},
	} {
		if want.Record != nil {
			*want.Record = 1
		}
		var have deadLetter
		if err := json.Unmarshal([]byte(lines[i]), &have); err != nil {
			t.Fatal(err)
		}
		if have.Detail == "" {
			t.Errorf("line %d says nothing in detail", i+1)
		}
		have.Detail = ""
		a, _ := json.Marshal(have)
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("got  %s\nwant %s", a, b)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines", len(lines))
	}
}

func ptr[T any](v T) *T { return &v }

type noError struct{ io.Writer }

func (w noError) Write(p []byte) (int, error) {
	_, _ = w.Writer.Write(p)
	return len(p), nil
}

func TestAFileThatCannotBeReadIsOneLineAndNoSuccess(t *testing.T) {
	good := `{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"id":"1"}}` + "\n"
	var wide, zipped bytes.Buffer
	wide.WriteString("\xff\xfe")
	for _, b := range []byte(strings.Repeat(good, 7000)) {
		wide.Write([]byte{b, 0})
	}
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, strings.Repeat(good, 1000))
	_ = z.Close()
	for _, test := range []struct {
		name, content string
		code          int
		want          string // behind the file's name
	}{
		{"UTF-16", wide.String(), exitWrong, ": is UTF-16, by its first two bytes; save it as UTF-8: iconv -f UTF-16 -t UTF-8\n"},
		{"a cut gzip header", "\x1f\x8b\x08", exitWrong, ": begins as gzip does, but its header is damaged or cut off (unexpected EOF); export or copy it again\n"},
		{"a wrong gzip header", "\x1f\x8b\xffxxxxxxxxx\n" + good, exitWrong, ": begins as gzip does, but its header is damaged or cut off (gzip: invalid header); export or copy it again\n"},
		{"cut gzip", zipped.String()[:zipped.Len()-9], exitFailed, ": unexpected EOF: it is damaged or cut off from here on; export or copy it again\n"},
	} {
		for _, name := range []string{file(t, "file", test.content), "-"} {
			got := prtwatch(test.content, "replay", name)
			if got.code != test.code || strings.Count(got.stderr, "prtwatch: ") != 1 || !strings.HasSuffix(got.stderr, name+test.want) {
				t.Errorf("%s: %+v", test.name, got)
			}
			if told := strings.Contains(got.stderr, "unreadable: 0\n"); !told && (name == "-" || test.code == exitFailed) {
				t.Errorf("%s: the counts are not those of what was read: %s", test.name, got.stderr)
			}
		}
	}
}
