package entra

import (
	"testing"

	gojson "github.com/goccy/go-json"

	"github.com/prtwatch/prtwatch/detector"
)

// The message has a hundred real records. MB/s are of JSON.
func BenchmarkDecode(b *testing.B) {
	for _, shape := range []string{"diagnostic", "table"} {
		b.Run(shape, func(b *testing.B) {
			message := benchMessage(b, shape)
			d := NewDecoder()
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				d.Decode(message, func(*detector.SignIn) { n++ }, func(u Unreadable) { b.Fatal(u) })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}

// What the JSON library alone takes for the same message, all records at once: what Decode is
// compared with.
func BenchmarkLibraryAlone(b *testing.B) {
	message := benchMessage(b, "diagnostic")
	var v struct{ Records []record }
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		for i := range v.Records {
			v.Records[i] = record{}
		}
		if err := gojson.UnmarshalWithOption(message, &v, gojson.DecodeNoCopyString()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/record")
}

func BenchmarkSplit(b *testing.B) {
	message := benchMessage(b, "diagnostic")
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		s := newScanner(message)
		if !s.enterRecords() {
			b.Fatal("no envelope")
		}
		s.peek()
		s.pos++
		for s.peek() == '{' {
			s.value()
			if s.peek() == ',' {
				s.pos++
			}
		}
	}
}
