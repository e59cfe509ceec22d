package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	gojson "github.com/goccy/go-json"

	"github.com/prtwatch/prtwatch/detector"
)

// kindOf tells apart what Decode tells apart: 0 fine, 1 a wrong type, 2 not JSON.
func kindOf(err error) int {
	var a *json.UnmarshalTypeError
	var b *gojson.UnmarshalTypeError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &a), errors.As(err, &b):
		return 1
	}
	return 2
}

// sameAsStandard fails unless the library and encoding/json say the same of raw.
func sameAsStandard(t testing.TB, raw []byte) {
	var ours, standard record
	kind := kindOf(gojson.UnmarshalWithOption(raw, &ours, gojson.DecodeNoCopyString()))
	if want := kindOf(json.Unmarshal(raw, &standard)); kind != want {
		t.Fatalf("%q: the library says %d, encoding/json %d", raw, kind, want)
	}
	if kind != 2 && !reflect.DeepEqual(ours, standard) {
		t.Fatalf("%q:\nlibrary       %+v\nencoding/json %+v", raw, ours, standard)
	}
}

// mutate changes some bytes of a record: most often into ones that mean something in JSON.
func mutate(r *rand.Rand, record []byte) []byte {
	const telling = `{}[]",:\0123456789-+.eEntfu` + "\n\x00\xff\x80 "
	m := append([]byte(nil), record...)
	for range 1 + r.IntN(3) {
		i := r.IntN(len(m))
		switch r.IntN(4) {
		case 0:
			m[i] = byte(r.Uint32())
		case 1:
			m[i] = telling[r.IntN(len(telling))]
		case 2:
			m = append(m[:i], m[min(len(m), i+1+r.IntN(8)):]...)
		case 3:
			j := r.IntN(len(m))
			piece := append([]byte(nil), m[j:min(len(m), j+1+r.IntN(40))]...)
			m = append(m[:i:i], append(piece, m[i:]...)...)
		}
		if len(m) == 0 {
			return []byte{' '}
		}
	}
	return m
}

// sameAsPlain fails unless the walker, or what it leaves to the library, says of a message what the
// library says alone.
func sameAsPlain(t testing.TB, d *Decoder, message []byte) result {
	t.Helper()
	plain := NewDecoder()
	plain.libraryOnly = true
	got, want := decode(d, message), decode(plain, message)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\nwalker  %+v\nlibrary %+v", message, got, want)
	}
	return got
}

// seedRecords are the real records in both shapes, and short ones.
func seedRecords(t testing.TB) (seeds [][]byte) {
	for _, s := range samples(t, nonInteractive) {
		seeds = append(seeds, s, tableOf(t, s))
	}
	return append(seeds, []byte(plainRecord), []byte(plainRow),
		[]byte(properties(`"ipAddress":"192.0.2.1","autonomousSystemNumber":64500,"deviceDetail":{"isManaged":true,"deviceId":"d\u0031"},"x":[1.5e-3,[],{},"\ud83d"]`)),
		[]byte(row(`"DeviceDetail":"{\"isManaged\":\"true\",\"displayName\":\"\\u00e9\\n\"}","LocationDetails":"{\"countryOrRegion\":\"NL\"}","UserAgent":"caf\u00e9 é"`)))
}

// The walker must say what the library says, of whole records and of broken ones.
func TestWalkerAgreesWithTheLibrary(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	seeds := seedRecords(t)
	d := NewDecoder()
	for range 20_000 {
		message := mutate(r, seeds[r.IntN(len(seeds))])
		if r.IntN(2) == 0 {
			message = append(append([]byte("["), message...), `,`+plainRow+`]`...)
		}
		sameAsPlain(t, d, message)
	}
	for depth := maxDepth - 4; depth < maxDepth+3; depth++ {
		deep := `"x":` + strings.Repeat(`[`, depth) + `1` + strings.Repeat(`]`, depth)
		for _, record := range []string{properties(deep), row(deep), row(`"DeviceDetail":{"deviceId":"d",` + deep + `}`)} {
			for range 2 { // a key that is new, and one that is known
				sameAsPlain(t, d, []byte(record))
				sameAsPlain(t, d, []byte("["+record+"]"))
			}
		}
	}
}

// What Azure writes is walked over: else all of it would be right, and slow.
func TestTheWalkerTakesRealRecords(t *testing.T) {
	for _, record := range seedRecords(t) {
		d := NewDecoder()
		if end, ok := d.walk(record, 0, d.wanted.record); !ok || end != len(record) {
			t.Errorf("declined at byte %d: %.300s", end, record)
		}
	}
}

// The library is fast because it does much by itself. It must say what encoding/json says of
// every record, whole or broken.
func TestTheLibraryAgreesWithEncodingJSONOnMutatedRecords(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	seeds := seedRecords(t)
	for range 20_000 {
		sameAsStandard(t, mutate(r, seeds[r.IntN(len(seeds))]))
	}
}

// Allocation is bounded by the input: a message of a million records that are none costs what
// its size costs.
func TestMemoryIsBoundedByTheSizeOfTheMessage(t *testing.T) {
	for _, element := range []string{"{}", "0", "null", plainRecord, `""`, `{"id":""}`} {
		message := []byte{'['}
		for len(message) < 1<<20 {
			message = append(append(message, element...), ',')
		}
		message[len(message)-1] = ']'
		d := NewDecoder()
		if got := peakOf(func(sample func()) {
			d.Decode(message, func(*detector.SignIn) { sample() }, func(Unreadable) { sample() })
		}); got > 16<<20 {
			t.Errorf("%.20s...: the heap grew by %d bytes", element, got)
		}
	}
	for name, message := range map[string]string{
		"one long text":       properties(`"userAgent":"` + string(make1MB('x')) + `"`),
		"one long inner text": row(`"AuthenticationDetails":"` + string(make1MB('x')) + `"`),
		"long envelope":       `{"a":1,"records":[` + properties(`"x":"`+string(make1MB('x'))+`"`) + `]}`,
	} {
		d := NewDecoder()
		decode(d, []byte(message))
		decode(d, []byte(plainRecord))
		if kept := keptBy(d); kept > maxKept+4<<10 {
			t.Errorf("%s: the decoder keeps %d bytes", name, kept)
		}
	}
}

func make1MB(b byte) []byte {
	m := make([]byte, 1<<20)
	for i := range m {
		m[i] = b
	}
	return m
}

// peakOf returns how much the live heap grew, looked at some times during f.
func peakOf(f func(sample func())) (most uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, calls := m.HeapAlloc, 0
	f(func() {
		if calls++; calls%100_000 == 1 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc-min(before, m.HeapAlloc))
		}
	})
	return most
}

func keptBy(d *Decoder) int {
	n := cap(d.texts)
	var of func(m *members)
	of = func(m *members) {
		for _, k := range m.order {
			n += keyBytes + cap(k.text)
			for _, v := range k.passed {
				n += cap(v)
			}
		}
		for _, t := range m.targets {
			if t.object != nil {
				of(t.object)
			}
		}
	}
	for _, m := range []*members{d.wanted.document, d.wanted.record, d.wanted.device, d.wanted.location} {
		of(m)
	}
	return n
}

// Keys that are too long or too many to be remembered are keys all the same, and cost no more time
// than others.
func TestKeysThatAreNotRemembered(t *testing.T) {
	long := strings.Repeat("k", 2*maxKeyBytes)
	many := func(name string, n int) string {
		return strings.Repeat(`"`+name+`":0,`, n) + `"end":0`
	}
	for _, record := range []string{
		`{"` + long + `":1,"a":2}`, properties(`"` + long + `":1,"zz":1,"userAgent":"x"`), row(`"` + long + `":1,"UserAgent":"x"`),
		row(`"DeviceDetail":"{\"` + long + `\":1,\"x\":1,\"deviceId\":\"d\"}"`),
		properties(many("", 100_000)), properties(many("b", 100_000)), // the second pushes the first before it
	} {
		d := NewDecoder()
		for range 2 {
			sameAsPlain(t, d, []byte(record))
			sameAsPlain(t, d, []byte("["+record+","+plainRow+"]"))
		}
	}
	d := NewDecoder()
	for _, name := range []string{"", "b", "c"} {
		sameAsPlain(t, d, []byte(properties(many(name, 150_000))))
	}
	for i := range 40 {
		var keys strings.Builder
		for n := range 300 {
			fmt.Fprintf(&keys, `"%d-%d":0,`, i, n)
		}
		sameAsPlain(t, d, []byte(properties(keys.String()+`"end":0`)))
	}
	if kept := keptBy(d); kept > 2*maxRemembered {
		t.Errorf("the decoder keeps %d bytes", kept)
	}
	for _, m := range []*members{d.wanted.document, d.wanted.record} {
		if n := len(m.order); n > maxKeys {
			t.Errorf("%d keys are remembered", n)
		}
	}
}

// Nothing of a message is kept once it was decoded: on a splitter that has nothing to do it would be
// for long.
func TestADecoderLetsGoOfTheMessage(t *testing.T) {
	d := NewDecoder()
	decode(d, []byte(row(`"DeviceDetail":"{\"deviceId\":\"d\"}","LocationDetails":{"countryOrRegion":"NL"}`)))
	if !reflect.DeepEqual(d.doc, document{}) || !reflect.DeepEqual(d.inner, NewDecoder().inner) || !reflect.DeepEqual(d.signIn, detector.SignIn{}) {
		t.Errorf("left: %+v, %+v, %+v", d.doc, d.inner, d.signIn)
	}
}

// What records were like is remembered up to a bound, whatever they are like.
func TestWhatIsRememberedOfRecordsIsBounded(t *testing.T) {
	d, most := NewDecoder(), 0
	for i := range 2000 {
		value := fmt.Sprintf(`[%d,"%s"]`, i, make1MB('x')[:5000])
		decode(d, []byte(properties(fmt.Sprintf(`"k%d":%s,"k":%s`, i, value, value))))
		most = max(most, keptBy(d))
	}
	if most < maxRemembered/2 || most > 2*maxRemembered {
		t.Errorf("the decoder keeps %d bytes", most)
	}
}

// FuzzDecode: whatever arrives, nothing panics, every text keeps its bounds, the same bytes
// say the same again, and the JSON library agrees with the standard one.
func FuzzDecode(f *testing.F) {
	for _, b := range bad {
		if len(b.record) < 4096 {
			f.Add([]byte("[" + b.record + "," + plainRow + "]"))
		}
	}
	f.Add(samples(f, nonInteractive)[0])
	f.Add(tableOf(f, samples(f, nonInteractive)[0]))
	for _, s := range []string{
		plainRecord, `{"records":[` + plainRecord + `,` + plainRow + `]}`, `{"a":1,"records":[{"records":[{}]},` + plainRow + `]}`,
		"\xef\xbb\xbfnull", row(`"DeviceDetail":"{\"isManaged\":true}","LocationDetails":"{}"`),
	} {
		f.Add([]byte(s))
	}
	d := NewDecoder()
	f.Fuzz(func(t *testing.T, message []byte) {
		before := string(message)
		first := sameAsPlain(t, d, message)
		if before != string(message) {
			t.Fatal("Decode wrote to the message")
		}
		if again := decode(NewDecoder(), message); !reflect.DeepEqual(first, again) {
			t.Fatalf("a used decoder: %+v\na new one: %+v", first, again)
		}
		for _, s := range first.signIns {
			checkBounds(t, s)
		}
		for _, u := range first.unreadable {
			if u.Detail == "" || u.Record < -1 {
				t.Fatalf("%+v", u)
			}
		}
		if len(message) > 0 {
			sameAsStandard(t, message)
		}
	})
}

func checkBounds(t *testing.T, s detector.SignIn) {
	if s.ID == "" || s.Generated.IsZero() || len(s.ID) > detector.MaxID || len(s.UPN) > detector.MaxID || len(s.UserID) > detector.MaxID {
		t.Fatalf("%+v", s)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back detector.SignIn
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(s, back) {
		t.Fatalf("%+v does not survive JSON: %+v, %v", s, back, err)
	}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.Len() > detector.MaxText {
			t.Fatalf("%s has %d bytes", v.Type().Field(i).Name, f.Len())
		}
	}
}
