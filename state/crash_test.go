package state

import (
	"bufio"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

func TestAfterACrashTheStateIsThatOfTheCheckpointThatIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		s := openMem(t, fs, narrow)
		defer func() { must(t, s.Close()) }()
		p := [2]*Partition{lease(t, s, 7), lease(t, s, 8)}
		// states[i][offset] is what partition i held at that checkpoint; 0 is an empty one.
		states := [2][]map[string]string{{{}}, {{}}}
		var flushed [2]int
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "partition")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				must(t, s.Flush())
				flushed = [2]int{len(states[0]) - 1, len(states[1]) - 1}
			case 1: // more than a memtable takes: Pebble flushes by itself
				state := maps.Clone(states[i][len(states[i])-1])
				for n := range 600 {
					user := fmt.Sprint("bulk", n)
					q := newProfile(narrow)
					for k := range 5 {
						q.See(fmt.Sprintf("%064d", k), fmt.Sprintf("%064d", k), int32(len(states[i])))
					}
					state[user] = string(q.appendTo(nil))
					must(t, p[i].Put([]byte(user), []byte(state[user])))
				}
				must(t, p[i].Restored(Checkpoint{Offset: int64(len(states[i]))}))
				states[i] = append(states[i], state)
			case 2:
				must(t, p[i].Drop())
				// No checkpoint says so: what is found then must be empty, see below. The
				// next commit is told apart by its offset.
				must(t, p[i].Commit(Checkpoint{Offset: int64(len(states[i]))}))
				states[i] = append(states[i], map[string]string{})
			default:
				for range rapid.IntRange(1, 5).Draw(t, "sign-ins") {
					profile(t, p[i], fmt.Sprint("user", rapid.IntRange(0, 9).Draw(t, "user"))).See(genText.Draw(t, "ip"), "64500", genHour.Draw(t, "hour"))
				}
				state := maps.Clone(states[i][len(states[i])-1])
				for user, value := range p[i].Changes() {
					state[user] = string(value)
				}
				must(t, p[i].Commit(Checkpoint{Offset: int64(len(states[i]))}))
				states[i] = append(states[i], state)
			}
		}
		seed := rapid.Uint64().Draw(t, "seed of the crash")
		crashed := fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: rapid.OneOf(rapid.SampledFrom([]int{0, 100}), rapid.IntRange(1, 99)).Draw(t, "unsynced data kept"), RNG: rand.New(rand.NewPCG(seed, 0)),
		})
		after := openMem(t, crashed, narrow)
		defer func() { must(t, after.Close()) }()
		if after.Instance() != s.Instance() {
			t.Fatalf("instance %s became %s", s.Instance(), after.Instance())
		}
		for i := range p {
			q := lease(t, after, p[i].number)
			cp, _, err := q.Checkpoint()
			must(t, err)
			if int(cp.Offset) < flushed[i] {
				t.Fatalf("partition %d is at %d, though %d was flushed", i, cp.Offset, flushed[i])
			}
			want := states[i][cp.Offset]
			for _, user := range everyUser(states[i]) {
				got := profile(t, q, user)
				if w, ok := want[user]; ok && string(got.appendTo(nil)) != w || !ok && got.seen() {
					t.Fatalf("partition %d at checkpoint %d: user %s is of another time", i, cp.Offset, user)
				}
			}
		}
	})
}

func everyUser(states []map[string]string) []string {
	users := map[string]bool{}
	for _, s := range states {
		for u := range s {
			users[u] = true
		}
	}
	out := make([]string, 0, len(users))
	for u := range users {
		out = append(out, u)
	}
	return out
}

// The kill test runs this binary again, as the process that is killed.
const killedDir = "PRTWATCH_TEST_KILLED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		commitUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// commitUntilKilled commits the same hour to 50 users at a time, and prints how often.
func commitUntilKilled(dir string) {
	cfg := DefaultConfig()
	cfg.Dir = dir
	s, err := Open(cfg, 335, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	t := panicking{}
	p := lease(t, s, 3)
	for n := int32(1); ; n++ {
		for u := range 50 {
			profile(t, p, fmt.Sprint("user", u)).See("192.0.2.1", "64500", n)
		}
		must(t, p.Commit(Checkpoint{Offset: int64(n)}))
		if n%100 == 0 {
			must(t, s.Flush())
			fmt.Println("flushed", n)
		}
	}
}

type panicking struct{}

func (panicking) Helper()                   {}
func (panicking) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (panicking) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func TestAProcessThatIsKilledLeavesAConsistentStateAndAFreeFolder(t *testing.T) {
	dir := t.TempDir()
	flushed := int64(0)
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for i := 0; i < 5 && lines.Scan(); i++ {
			if _, err := fmt.Sscanf(lines.Text(), "flushed %d", &flushed); err != nil {
				t.Fatal(lines.Text())
			}
			if i == 0 {
				t.Log(openTwice(t, dir))
			}
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		cfg := DefaultConfig()
		cfg.Dir = dir
		s, err := Open(cfg, 335, slog.New(slog.DiscardHandler))
		must(t, err)
		p := lease(t, s, 3)
		cp, _, err := p.Checkpoint()
		must(t, err)
		if cp.Offset < flushed {
			t.Errorf("the checkpoint is %d, though %d was flushed", cp.Offset, flushed)
		}
		for u := range 50 {
			if _, _, _, last := profile(t, p, fmt.Sprint("user", u)).Counts(0, 1<<30); int64(last) != cp.Offset {
				t.Errorf("user %d is at %d, the checkpoint at %d", u, last, cp.Offset)
			}
		}
		must(t, p.Drop()) // the next round starts at 1
		must(t, s.Close())
	}
}

// openTwice opens a folder that another process has, and returns what it gets.
func openTwice(t *testing.T, dir string) error {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir = dir
	_, err := Open(cfg, 335, slog.New(slog.DiscardHandler))
	checkInUse(t, err, dir)
	return err
}

func checkInUse(t *testing.T, err error, dir string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "state.dir") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a folder in use: %v", err)
	}
}
