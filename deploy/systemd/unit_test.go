// What can be checked of the unit without a systemd that runs: systemd-analyze, where it is installed, and that the example of
// a configuration is one. `.ci/systemd` runs it under one.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/cmd/prtwatch/settings"
)

// exposure is what systemd-analyze security may say at most, in tenths: 0 is locked up, 100 wide open.
const exposure = "13"

// unit copies the unit and what is added to it, with a program that is there.
func unit(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	for _, file := range []string{"prtwatch.service", "prtwatch.service.d/secrets.conf"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "/usr/local/bin/prtwatch", "/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "prtwatch.service")
}

func TestSystemdUnderstandsEveryLineOfTheUnit(t *testing.T) {
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit(t)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheUnitMayDoLittle(t *testing.T) {
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure, unit(t)).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

func TestTheExampleIsAConfiguration(t *testing.T) {
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "eventhub"), []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := settings.Load(settings.Sources{File: "prtwatch.yaml", Environ: []string{
		"CREDENTIALS_DIRECTORY=" + credentials, "PRTWATCH_STATE__DIR=/var/lib/prtwatch",
	}})
	if err != nil {
		t.Error(err)
	}
}
