package process

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestCPUIsReadBehindANameOfAnyKind(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 250 50 11 12 20 0 9 0 100 1000 200"
	for _, name := range []string{"java", "a b", "a) R 1 2 (b", ""} {
		got, err := cpu("4242 (" + name + ")" + rest)
		if err != nil || got != 3*time.Second {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
}

func TestAStatFileThatIsCutOffIsAnError(t *testing.T) {
	for _, stat := range []string{"", "4242", "4242 (java", "4242 (java) S 1 2 3", "4242 (java) S 1 2 3 4 5 6 7 8 9 10 x 50 11"} {
		if got, err := cpu(stat); err == nil {
			t.Errorf("%q: %s and no error", stat, got)
		}
	}
}

func TestASizeIsReadInBytes(t *testing.T) {
	const status = "Name:\tVmHWM:\nVmPeak:\t  999 kB\nVmHWM:\t  1024 kB\nVmRSS:\t 512 kB\n"
	if got, err := kilobytes([]byte(status), "VmHWM"); err != nil || got != 1<<20 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := kilobytes([]byte("VmHWM:\tmany kB\n"), "VmHWM"); err == nil {
		t.Error("no error of a size that is no number")
	}
	// A process that was not waited for has no memory.
	if _, err := kilobytes([]byte("Name:\tx\nState:\tZ (zombie)\n"), "VmHWM"); err == nil {
		t.Error("no error without the line")
	}
}

func TestWhatThisProcessTakesIsPlausible(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for began := time.Now(); after.CPU == before.CPU && time.Since(began) < time.Minute; { // it may wait long for its turn
		if after, err = Of(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if took := after.CPU - before.CPU; took <= 0 || took > time.Minute {
		t.Errorf("a while of looking took %s", took)
	}
	if after.Peak < 1<<20 || after.Peak > 1<<40 {
		t.Errorf("%d bytes", after.Peak)
	}
}

func TestAProcessThatEndsByItselfSaysHowAndWhatItSaidLast(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	p, err := Start("shell", t.TempDir()+"/log", shell, "-c", "echo its last words; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended
	const want = "shell ended by itself (exit status 3): its last words"
	if _, err := p.Usage(); err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
	if err := p.Stop(time.Second); err == nil {
		t.Error("stopping it is no error")
	}
}

func TestStopEndsAProcessThatDoesNotHear(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	log := t.TempDir() + "/log"
	p, err := Start("shell", log, shell, "-c", "trap '' TERM; echo deaf; while :; do sleep 0.01; done")
	if err != nil {
		t.Fatal(err)
	}
	for said := ""; said == ""; {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		said = string(text)
	}
	if err := p.Stop(50 * time.Millisecond); err == nil {
		t.Error("no error")
	}
	if err := p.Alive(); err == nil {
		t.Error("it lives")
	}
}

func TestWhatAProcessWroteToDiskIsCounted(t *testing.T) {
	dd, err := exec.LookPath("dd")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Type == tmpfs {
		t.Skipf("%s is no disk (%v)", dir, err)
	}
	p, err := Start("dd", dir+"/log", dd, "if=/dev/zero", "of="+dir+"/file", "bs=1M", "count=8")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Written(); got < 8<<20 || got > 9<<20 {
		t.Errorf("%d bytes, not 8 MiB", got)
	}
}
