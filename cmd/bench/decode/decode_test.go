package decode

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/prtwatch/prtwatch/internal/tenant"
)

func TestEveryRecordOfAFileIsDecoded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	made, err := tenant.New(tenant.Options{Users: 2, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for _, records := range []int{3, 1, 2} {
		var message [][]byte
		for range records {
			s, _ := made.Next()
			message = append(message, s.Record)
		}
		file.Write(append(tenant.Envelope(nil, message...), '\n'))
	}
	for _, text := range [][]byte{file.Bytes(), bytes.TrimSuffix(file.Bytes(), []byte("\n"))} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if records, err := File(path); records != 6 || err != nil {
			t.Errorf("%d records, %v", records, err)
		}
	}
	if err := os.WriteFile(path, []byte("{\"records\":[{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := File(path); err == nil {
		t.Error("no error of a message that is cut off")
	}
}
