package fleet

import (
	"bytes"
	"errors"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func stateWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func content(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOneBitOfOneTableIsFlippedAndNothingElse(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	files := map[string]string{"format": "1\n", "pebble/000004.sst": "the table", "pebble/MANIFEST-000001": "the manifest"}
	dir := stateWith(t, files)
	if _, err := Flip(dir, rand.New(rand.NewPCG(seed, 1))); err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for name, text := range files {
		for at, b := range content(t, dir, name) {
			n := bits.OnesCount8(b ^ text[at])
			flipped += n
			if n > 0 && name != "pebble/000004.sst" {
				t.Errorf("%s changed", name)
			}
		}
	}
	if flipped != 1 {
		t.Errorf("%d bits changed", flipped)
	}
}

func TestOnlyWhatBelongsToPebbleIsCutOff(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dir := stateWith(t, map[string]string{"format": "1\n", "instance": "slot0\n", "pebble/000004.sst": "the table"})
	if _, err := Truncate(dir, rand.New(rand.NewPCG(seed, 1))); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "pebble/000004.sst"); len(got) >= len("the table") || !bytes.HasPrefix([]byte("the table"), got) {
		t.Errorf("the table is %q now", got)
	}
	if string(content(t, dir, "instance")) != "slot0\n" || string(content(t, dir, "format")) != "1\n" {
		t.Error("another file changed: prtwatch refuses that, and rightly")
	}
}

func TestNothingToDamageIsSaid(t *testing.T) {
	dir := stateWith(t, map[string]string{"format": "1\n"})
	random := rand.New(rand.NewPCG(1, 1))
	if _, err := Flip(dir, random); !errors.Is(err, ErrNothing) {
		t.Errorf("flip: %v", err)
	}
	if _, err := Truncate(dir, random); !errors.Is(err, ErrNothing) {
		t.Errorf("truncate: %v", err)
	}
}

func TestSwapAndCopy(t *testing.T) {
	a, b := stateWith(t, map[string]string{"x": "a"}), stateWith(t, map[string]string{"x": "b"})
	if err := Swap(a, b); err != nil {
		t.Fatal(err)
	}
	if string(content(t, a, "x")) != "b" || string(content(t, b, "x")) != "a" {
		t.Error("they are not swapped")
	}
	if err := os.RemoveAll(b); err != nil {
		t.Fatal(err)
	}
	if err := Swap(a, b); err != nil { // one that is missing is swapped too
		t.Fatal(err)
	}
	if _, err := os.Stat(a); err == nil || string(content(t, b, "x")) != "b" {
		t.Error("the missing one was not swapped")
	}
	if err := Copy(a, b); err != nil || string(content(t, a, "x")) != "b" {
		t.Errorf("the copy: %v", err)
	}
}

func TestAStateThatIsSetAsideIsExplainedByItsDamageWhereverItWent(t *testing.T) {
	a, b := stateWith(t, map[string]string{"pebble/000004.sst": "the table"}), stateWith(t, map[string]string{"pebble/000004.sst": "the table"})
	aside := func(dir string) { // what prtwatch does, and starts a fresh one
		if err := os.Rename(filepath.Join(dir, "pebble"), filepath.Join(dir, "pebble.corrupt")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Flip(a, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	if err := Swap(a, b); err != nil {
		t.Fatal(err)
	}
	if Damaged(a) || !Damaged(b) {
		t.Errorf("damaged: %t, and the one that was swapped for it: %t", Damaged(a), Damaged(b))
	}
	aside(b)
	if Damaged(b) {
		t.Error("what lies aside is in the way still")
	}
	if AsideForNothing(b) {
		t.Error("what was damaged under another name is taken for sound")
	}
	aside(a)
	if !AsideForNothing(a) {
		t.Error("of a state that nobody damaged nothing is told")
	}
	if AsideForNothing(a) {
		t.Error("told twice")
	}
}
