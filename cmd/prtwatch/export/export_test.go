package export

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/prtwatch/prtwatch/detector"
)

// found is what a file turned out to hold.
type found struct {
	ids        []string
	unreadable []string // line:reason
	skipped    int
	events     []event
}

func read(tb interface{ Fatal(...any) }, text string) found {
	var f found
	err := NewReader(Visitor{
		SignIn: func(s *detector.SignIn) {
			f.ids = append(f.ids, strings.Clone(s.ID))
			f.events = append(f.events, event{id: f.ids[len(f.ids)-1]})
		},
		Unreadable: func(u Unreadable) {
			f.unreadable = append(f.unreadable, fmt.Sprintf("%d:%s", u.Line, u.Reason))
			f.events = append(f.events, event{text: strings.TrimSpace(string(u.Bytes))})
		},
		Skipped: func(n int) { f.skipped += n },
		Stop:    func() error { return nil },
	}).Read(strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// record is a sign-in as diagnostic settings write it.
func record(id string) string {
	return fmt.Sprintf(`{"time":"2026-11-23T10:00:00Z","category":"NonInteractiveUserSignInLogs","properties":{"id":%q,"note":"} ] \" ["}}`, id)
}

// printed is the record as a printer writes it, each line but the first indented.
func printed(id, indent string) string {
	lines := []string{
		`{`, `  "time": "2026-11-23T10:00:00Z",`, `  "category": "NonInteractiveUserSignInLogs",`,
		`  "properties": {`, fmt.Sprintf(`    "id": %q,`, id), `    "list": [`, `      {`, `        "a": 1`, `      },`, `      null`, `    ]`, `  }`, `}`,
	}
	return strings.Join(lines, "\n"+indent)
}

func TestRecordsAreFoundHoweverTheyLie(t *testing.T) {
	a, b, c := record("a"), record("b"), record("c")
	other := strings.Replace(a, "NonInteractive", "", 1)
	cut := a[:len(a)/2]
	all := []string{"a", "b", "c"}
	for _, test := range []struct {
		name string
		text string
		want found
	}{
		{"a record a line", a + "\n" + b + "\n" + c, found{ids: all}},
		{"blank lines, CRLF and a byte order mark", "\ufeff" + a + "\r\n\r\n  \n" + b + "\r\n" + c + "\r\n", found{ids: all}},
		{"an envelope a line", `{"records":[` + a + "," + b + "]}\n" + `{"records":[` + c + "]}\n", found{ids: all}},
		{"an array a line", "[" + a + "," + b + "]\n[" + c + "]", found{ids: all}},
		{"several values on a line", a + b + " " + c, found{ids: all}},
		{"a printed record", printed("a", "") + "\n" + printed("b", "") + "\n" + c, found{ids: all}},
		{"a printed array", "[\n  " + printed("a", "  ") + ",\n  " + printed("b", "  ") + ",\n  " + printed("c", "  ") + "\n]\n", found{ids: all}},
		{"a printed envelope", "{\n  \"records\": [\n    " + printed("a", "    ") + ",\n    " + printed("b", "    ") + "\n  ],\n  \"x\": [1, {}]\n}\n" + c, found{ids: all}},
		{"a bracket below its key", "{\n\"records\":\n[\n" + a + "\n,\n" + b + "]\n}\n" + c, found{ids: all}},
		{"an array with a record a line", "[\n" + a + ",\n" + b + ",\n" + c + "\n]\n", found{ids: all}},
		{"commas first", "[" + a + "\n," + b + "\n," + c + "]", found{ids: all}},
		{"an envelope that goes on behind a record", `{"records":[` + a + "\n," + b + "]}\n" + c, found{ids: all}},
		{"an envelope with another key first", "{\n\"x\": 1,\n\"records\": [\n" + a + ",\n" + b + "\n]}\n" + c, found{ids: all}},
		{"envelopes in a printed array", "[\n{\"records\": [" + a + "," + b + "]},\n{\"records\": [" + c + "]}\n]", found{ids: all}},
		{"other categories", other + "\n" + a + "\n[\n" + other + "," + b + "]\n" + c, found{ids: all, skipped: 2}},

		{"a line that is cut off", a + "\n" + cut + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"2:malformed_json"}}},
		{"a line that is cut off behind a comma", a + "\n" + a[:strings.Index(a, ",")+1] + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"2:malformed_json"}}},
		{"a line that is cut off behind a colon", a + "\n" + a[:strings.Index(a, `"properties":`)+13] + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"2:malformed_json"}}},
		{"an envelope that is cut off", `{"records":[` + a + "," + cut + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"1:malformed_json"}}},
		{"all lines are cut off", cut + "\n" + cut + "\n" + cut, found{unreadable: []string{"1:malformed_json", "2:malformed_json", "3:malformed_json"}}},
		{
			"a printed record that is cut off by the next", "[\n  " + printed("a", "  ") + ",\n  {\n    \"time\": \"2026\n  },\n  " + printed("b", "  ") + ",\n  " + printed("c", "  ") + "\n]",
			found{ids: all, unreadable: []string{"15:malformed_json"}},
		},
		{
			"a printed record that lacks its end", "[\n  " + printed("a", "  ") + ",\n  {\n    \"time\": \"2026\",\n  " + printed("b", "  ") + ",\n  " + printed("c", "  ") + "\n]",
			found{ids: all, unreadable: []string{"15:malformed_json"}},
		},
		{"a printed array that is cut off", "[\n  " + printed("a", "  ") + ",\n  " + printed("b", "  ") + ",\n  " + printed("c", "  ") + ",\n  {\n    \"time\"", found{ids: all, unreadable: []string{"41:malformed_json"}}},
		{
			"a line that is cut off before odd lines", cut + "\n " + a + "\nnull\ntrue\nx{\"a\"\n" + b + "\n" + c,
			found{ids: all, unreadable: []string{"1:malformed_json", "3:empty", "4:not_a_record", "5:not_a_record"}},
		},
		{
			"a line that is cut off behind a colon before odd lines", a[:strings.Index(a, `"properties":`)+13] + "\n " + a + "\nnull\n" + b + "\n" + c,
			found{ids: all, unreadable: []string{"1:malformed_json", "3:empty"}},
		},
		{
			"a printed array that is cut off before lines", "[\n  " + printed("a", "  ") + ",\n  {\n    \"time\"\nrubbish\n" + b + "\n" + c,
			found{ids: all, unreadable: []string{"15:malformed_json"}},
		},
		{"an envelope that lacks its end", `{"records":[` + a + "," + b + "," + c + "]", found{ids: all, unreadable: []string{"1:malformed_json"}}},
		{"text", "hello\n" + a + "\nnull\n" + b + "\n5\n" + c, found{ids: all, unreadable: []string{"1:not_a_record", "3:empty", "5:not_a_record"}}},
		{"text behind a record", a + " hello\n" + b + "\n" + c, found{ids: all, unreadable: []string{"1:not_a_record"}}},
		{"no record in an array", "[\n" + a + ",\n5, \"x\", null,\n" + b + "," + c + "]", found{ids: all, unreadable: []string{"3:not_a_record", "3:not_a_record", "3:empty"}}},
		{"records is no array", `{"records": 5}` + "\n" + a + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"1:not_a_record"}}},
		{"nested too deep", strings.Repeat("[", 10000) + "\n" + a + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"1:malformed_json"}}},
		{"too large for a message, on one line", "[" + a + "," + strings.Repeat(" ", MaxRecord) + b + "," + c + "]\n", found{ids: all}},
		{"too large for a record", a + "\n{\"x\":\"" + strings.Repeat("x", MaxRecord) + "\"}\n" + b + "\n" + c, found{ids: all, unreadable: []string{"2:too_large"}}},
		{"a long line of text", a + "\n" + strings.Repeat("x", 2*MaxRecord) + "\n" + b + "\n" + c, found{ids: all, unreadable: []string{"2:too_large"}}},
		{"nothing", "", found{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := read(t, test.text)
			got.events = nil
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

// event is one thing that a Reader tells: a sign-in's id or, where that is empty, what it
// could not read.
type event struct {
	id   string
	text string
}

func (e event) String() string { return fmt.Sprintf("%s%.60q", e.id, e.text) }

// punctuation is what may lie between records, and between what is reported.
var punctuation = regexp.MustCompile(`^(?:[\s,\[\]}]|\{\s*"records"\s*:\s*\[)*`)

var behindArray = regexp.MustCompile(`\]\s*,\s*"`)

// unexplained walks through the text by what the Reader told of it, and returns where the
// first byte is that is neither in a record that was read, nor in one that was reported, nor
// punctuation; len(text) if there is none.
func unexplained(text string, events []event) int {
	at := 0
	for _, e := range events {
		if e.id == "" {
			n := strings.Index(text[at:], e.text)
			if n < 0 || len(punctuation.FindString(text[at:at+n])) < n {
				return at
			}
			at += n + len(e.text)
			continue
		}
		at += len(punctuation.FindString(text[at:]))
		decoder := json.NewDecoder(strings.NewReader(text[at:]))
		var v struct{ Properties struct{ ID string } }
		if decoder.Decode(&v) != nil || v.Properties.ID != e.id {
			return at
		}
		at += int(decoder.InputOffset())
	}
	return at + len(punctuation.FindString(text[at:]))
}

// someFile draws a file in which messages lie in every way, and the ids in it.
func someFile(t *rapid.T) (text string, ids []string) {
	var out strings.Builder
	for i := range rapid.IntRange(2, 8).Draw(t, "values") {
		a, b := fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i)
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			fmt.Fprintf(&out, "%s\n%s\n", record(a), record(b))
		case 1:
			fmt.Fprintf(&out, "{\"records\":[%s,%s]}\n", record(a), record(b))
		case 2:
			fmt.Fprintf(&out, "[\n  %s,\n  %s\n]\n", printed(a, "  "), printed(b, "  "))
		case 3:
			fmt.Fprintf(&out, "{\"records\": [\n%s,\n%s]\n}\n", record(a), record(b))
		case 4:
			fmt.Fprintf(&out, "%s\n%s\n", printed(a, ""), printed(b, ""))
		case 5:
			fmt.Fprintf(&out, " %s\n\n%s %s\n", record(a), record(b), rapid.SampledFrom([]string{"", " "}).Draw(t, "blank"))
		}
		ids = append(ids, a, b)
	}
	return out.String(), ids
}

// TestEveryByteIsReadOrReportedOnce cuts and garbles a good file anywhere: whatever comes of
// it, each byte is in one record that is read, or in one that is reported, or punctuation;
// so no record is found twice or in another order, either.
func TestEveryByteIsReadOrReportedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, ids := someFile(t)
		if got := read(t, text); !reflect.DeepEqual(got.ids, ids) || got.unreadable != nil {
			t.Fatalf("%+v of\n%s", got, text)
		}
		put := []string{"", "\n", "{", "]", "\"", "}\n{", ",", "\\", "\nnull\ntrue\nx{}\n", "\nrubbish", "\n  {\"a\n" + record("x") + "\n"}
		for range rapid.IntRange(1, 3).Draw(t, "damages") {
			from := rapid.IntRange(0, len(text)-1).Draw(t, "from")
			to := min(len(text), from+rapid.IntRange(0, 100).Draw(t, "cut"))
			text = text[:from] + rapid.SampledFrom(put).Draw(t, "put") + text[to:]
		}
		got := read(t, text)
		if got.skipped > 0 {
			t.Skip("the damage is in the category")
		}
		if behindArray.MatchString(text) {
			t.Skip("the damage may be an envelope's key behind its array, which nobody looks at")
		}
		if at := unexplained(text, got.events); at < len(text) {
			t.Fatalf("from byte %d on it is not so: %q\nit told %v of\n%s", at, text[at:], got.events, text)
		}
	})
}

func TestCompressedFilesAreKnownByTheirFirstBytes(t *testing.T) {
	text := record("a") + "\n" + record("b") + "\n"
	var gz, zst bytes.Buffer
	for _, part := range []string{text[:100], text[100:]} { // several members, as log rotation makes them
		g := gzip.NewWriter(&gz)
		io.WriteString(g, part)
		g.Close()
		z, _ := zstd.NewWriter(&zst)
		io.WriteString(z, part)
		z.Close()
	}
	for name, content := range map[string]string{"plain": text, "gzip": gz.String(), "zstd": zst.String()} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if string(got) != text || err != nil || f.Progress() != f.Size || f.Size != int64(len(content)) {
			t.Errorf("%s: %q, %v, %d of %d", name, got, err, f.Progress(), f.Size)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheRestOfALongBrokenLineIsReported(t *testing.T) {
	garbage := strings.Repeat("rubbish ", 3<<20)
	for name, text := range map[string]string{
		"in an array":       "[\n" + record("a") + ",\n{\"x\" " + garbage + "\n" + record("b") + "\n]\n",
		"outside of arrays": record("a") + "\n{\"x\" " + garbage + "\n" + record("b") + "\n",
	} {
		got := read(t, text)
		reported := 0
		for _, e := range got.events {
			reported += strings.Count(e.text, "rubbish")
		}
		if want := len(garbage) / len("rubbish "); reported < want-1 || reported > want { // one may be cut in two
			t.Errorf("%s: %d of %d words are reported", name, reported, want)
		}
		if !reflect.DeepEqual(got.ids, []string{"a", "b"}) {
			t.Errorf("%s: read %v", name, got.ids)
		}
	}
}

// utf16 is the text as Windows writes it.
func utf16(text string) string {
	out := []byte("\xff\xfe")
	for _, b := range []byte(text) {
		out = append(out, b, 0)
	}
	return string(out)
}

func TestAFileThatIsNotWhatItBeginsAsIsRefused(t *testing.T) {
	for name, content := range map[string]string{
		"UTF-16":                utf16(record("a") + "\n"),
		"much UTF-16":           utf16(strings.Repeat(record("a")+"\n", 5000)), // more than is buffered
		"UTF-16, big end first": "\xfe\xff\x00{\x00}",
		"a line of UTF-16":      "\xff\xfe\n\n\n\n\n" + record("a"),
		"a cut gzip header":     "\x1f\x8b\x08",
		"a wrong gzip header":   "\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\n" + record("a") + "\n",
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var form *FormError
		if _, err := Open(path, nil); !errors.As(err, &form) || form.Name != path || !strings.Contains(form.Problem, "; ") {
			t.Errorf("%s: opening: %v", name, err)
		}
		f, err := Open("-", strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		visit := Visitor{
			SignIn:     func(*detector.SignIn) { t.Errorf("%s: a sign-in", name) },
			Unreadable: func(u Unreadable) { t.Errorf("%s: %v", name, u) },
			Skipped:    func(int) {},
			Stop:       func() error { return nil },
		}
		for range 2 { // and stays so
			if err := NewReader(visit).Read(f); !errors.As(err, &form) || form.Name != "-" {
				t.Errorf("%s: reading: %v", name, err)
			}
		}
	}
}

func TestAFileThatBreaksOffIsNamed(t *testing.T) {
	var gz bytes.Buffer
	g := gzip.NewWriter(&gz)
	io.WriteString(g, strings.Repeat(record("a"), 1000))
	g.Close()
	for _, content := range []string{gz.String()[:gz.Len()-20], gz.String()[:gz.Len()-5] + "xxxxx", "\x28\xb5\x2f\xfdrubbish"} {
		f, err := Open("-", strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(f)
		var form *FormError
		if err == nil || errors.As(err, &form) || !strings.HasPrefix(err.Error(), "reading -: ") || !strings.HasSuffix(err.Error(), "; export or copy it again") {
			t.Errorf("%q: %v", content[:4], err)
		}
	}
}

func TestAnErrorOfReadingIsNotTheFilesFault(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, begin := range []string{"", "{", "\x1f\x8b", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00\x01"} {
		f, err := Open("-", io.MultiReader(strings.NewReader(begin), iotest.ErrReader(broken)))
		if err != nil {
			t.Fatal(err)
		}
		err = NewReader(Visitor{Skipped: func(int) {}, Stop: func() error { return nil }}).Read(f)
		if !errors.Is(err, broken) || err.Error() != "reading -: the disk is gone" {
			t.Errorf("%q: %v", begin, err)
		}
	}
}

func TestReadingStopsWhenItIsTold(t *testing.T) {
	enough, n := errors.New("enough"), 0
	err := NewReader(Visitor{
		SignIn:     func(*detector.SignIn) { n++ },
		Unreadable: func(Unreadable) {},
		Skipped:    func(int) {},
		Stop: func() error {
			if n == 2 {
				return enough
			}
			return nil
		},
	}).Read(strings.NewReader(strings.Repeat(record("a")+"\n", 10)))
	if err != enough || n != 2 {
		t.Error(err, n)
	}
}
