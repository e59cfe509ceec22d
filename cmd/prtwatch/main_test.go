package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asMain makes the test binary behave as prtwatch, for tests of signals and memory.
const asMain = "PRTWATCH_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// ended is what a run left behind.
type ended struct {
	code           int
	stdout, stderr string
}

// prtwatch runs a command line within the test, with no environment.
func prtwatch(stdin string, args ...string) ended {
	var stdout, stderr bytes.Buffer
	code := run(args, strings.NewReader(stdin), &stdout, &stderr, nil)
	return ended{code, stdout.String(), stderr.String()}
}

// process is prtwatch in a process of its own. Its temporary folder is the test's.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asMain+"=1", "TMPDIR="+t.TempDir())
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
		}
	})
	return cmd
}

// leftBehind lists what is in the process's temporary folder.
func leftBehind(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	dir := ""
	for _, variable := range cmd.Env {
		if value, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			dir = value
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// file makes a file of the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAWrongTurnIsOneLineAndExitCode2(t *testing.T) {
	taken := file(t, "taken", "")
	link, linked := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "linked")
	if err := errors.Join(os.Symlink(taken, link), os.Symlink(filepath.Dir(link), linked)); err != nil {
		t.Fatal(err)
	}
	badYAML := file(t, "bad.yaml", "kafka:\n  brokers: [a:1\n")
	badKey := file(t, "key.yaml", "detection:\n  allow_list: []\n")
	badAllow := file(t, "allow.txt", "192.0.2.0/24\n192.0.2.300\n")
	noFolder := filepath.Join(t.TempDir(), "none", "such", "alerts")
	for _, test := range []struct {
		args string
		want string // of the line
	}{
		{"", "a command is missing: config, "},
		{"relpay x", "there is no command relpay; did you mean replay?"},
		{"replay --dead-leter x y", "prtwatch replay has no flag --dead-leter; did you mean --dead-letter?"},
		{"--confg x version", "prtwatch version has no flag --confg; did you mean --config?"},
		{"nosuch", "there is no command nosuch; there are config, demo, gen, ready, redrive, replay, run, top, topics, version"},
		{"gen --nosuch", "prtwatch gen has no flag --nosuch; see prtwatch gen --help"},
		{"gen -c 5", "prtwatch gen has no flag -c; see prtwatch gen --help"},
		{"gen extra", "prtwatch gen takes no arguments; leave out extra, or see prtwatch gen --help"},
		{"version x y", "prtwatch version takes no arguments; leave out x y, or see prtwatch version --help"},
		{"config --set =3", `--set "=3": the key is missing; write --set KEY=VALUE`},
		{"config --config " + filepath.Dir(taken), "--config " + filepath.Dir(taken) + ": is a directory; name a YAML file that can be read"},
		{"replay", "replay: a file is missing: prtwatch replay FILE..., - for standard input"},
		{"replay none.jsonl", "none.jsonl: no such file or directory; name a file that can be read, or - for standard input"},
		{"replay " + filepath.Dir(taken), filepath.Dir(taken) + ": is a folder; name the files in it"},
		{"replay - -", "-: standard input is named twice; it can be read once"},
		{"replay --dead-letter " + taken + " " + taken, "--dead-letter " + taken + ": is a file to be read; name another"},
		{"replay --dead-letter " + noFolder + " " + taken, "--dead-letter " + noFolder + ": no such file or directory; name a file that can be written"},
		{"replay --set detection.allowlist=" + badAllow + " -", "allowlist " + badAllow + ":2: "},
		{"replay --set detection.allowlist=none.txt -", "detection.allowlist: none.txt: no such file or directory; name a file that can be read, or take it off the list"},
		{"config --config none.yaml", "--config none.yaml: no such file or directory; name a YAML file that can be read"},
		{"config --check --config " + badYAML, badYAML + ":2: reading YAML: "},
		{"config --config " + badKey, badKey + ":2: there is no key detection.allow_list; did you mean detection.allowlist?"},
		{"config --set split.merge_wait=5", `--set: split.merge_wait: "5" has no unit: write 5s if seconds are meant (units: ms, s, m, h)`},
		{"config --check --set detection.allowlist=" + badAllow, "allowlist " + badAllow + ":2: "},
		{"config --set detect.group=prtwatch-split", `detect.group: "prtwatch-split" is split.group too; give each stage a group of its own`},
		{"config --set delivery=at-most-once", "delivery: \"at-most-once\" is not a way to deliver"},
		{"config --set detect.group_protocol=eager", "detect.group_protocol: \"eager\" is neither classic nor consumer"},
		{"config --set", "flag needs an argument: --set"},
		{"redrive --all --from 3", "--all, --since and --from each say where to begin; give one of them"},
		{"redrive --from -3", "--from -3: give an offset, 0 or more"},
		{"redrive --since yesterday", `--since "yesterday": is no time such as 2026-11-01T00:00:00Z`},
		{"redrive --reason wrong", "--reason wrong: there is none; give one of empty, malformed_json, "},
		{"redrive --group=", "--group: is empty; name a consumer group, such as prtwatch-redrive"},
		{"top --url ftp://127.0.0.1", "--url ftp://127.0.0.1: give host:port or a URL, such as http://127.0.0.1:9187"},
		{"top --set http.listen=127.0.0.1:0", "http.listen 127.0.0.1:0: port 0 is one that only the instance knows; give the port that its log names as --url"},
		{"top --interval 1ms", "--interval 1ms: give 100ms or more"},
		{"topics --input", "--input: says that --create makes the input topics too; add --create"},
		{"topics --set kafka.brokers=", "kafka.brokers: empty: list at least one host:port"},
		{"topics --set kafka.sasl.mechanism=PLAIN --set kafka.sasl.user=u --set kafka.sasl.password_file=none", "kafka.sasl.password_file: none: "},
		{"gen --shape round --out -", `--shape "round": none of diagnostic, table, mixed`},
		{"gen --users 0 --out -", "--users 0: is not within 1 and 1000000"},
		{"gen --users many --out -", `--users "many": give a whole number, such as 10`},
		{"gen --seed -1 --out -", `--seed "-1": give a whole number, 0 or more`},
		{"gen --rate much --out -", `--rate "much": give a number, such as 10 or 0.5`},
		{"gen --for abc --rate 1 --out -", `--for "abc": give a time with its unit, such as 20s or 10m`},
		{"gen --for 5 --out -", `--for "5": give a time with its unit, such as 20s or 10m`},
		{"gen --for 5s --out -", "--for 5s: goes with --rate; a history is bounded by --days"},
		{"gen --start yesterday --out -", `--start "yesterday": is no time such as 2026-11-01T00:00:00Z`},
		{"gen --out - --labels -", "--labels -: is where the messages go; name another file"},
		{"gen --out " + taken + " --labels " + taken, "--labels " + taken + ": is where the messages go; name another file"},
		{"gen --out " + taken + " --labels " + link, "--labels " + link + ": is where the messages go; name another file"},
		{"gen --out " + filepath.Dir(link) + "/new --labels " + filepath.Dir(link) + "/./new", "--labels " + filepath.Dir(link) + "/./new: is where"},
		{"gen --out " + filepath.Dir(link) + "/new --labels " + linked + "/new", "--labels " + linked + "/new: is where"},
		{"gen --out " + noFolder, "--out " + noFolder + ": no such file or directory; name a file that can be written"},
	} {
		t.Run(test.args, func(t *testing.T) {
			got := prtwatch("", strings.Fields(test.args)...)
			if got.code != exitWrong || !strings.HasPrefix(got.stderr, "prtwatch: "+test.want) || strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
				t.Errorf("exit code %d, and it said:\n%s%s\nnot: %s", got.code, got.stdout, got.stderr, test.want)
			}
		})
	}
}

func TestABrokerThatDoesNotAnswerIsOneLineAndExitCode1(t *testing.T) {
	for _, args := range []string{"topics", "gen --rate 1", "redrive"} {
		got := prtwatch("", append(strings.Fields(args), "--set", "kafka.brokers=127.0.0.1:1", "--set", "start_timeout=1s", "--set", "log.level=error")...)
		if got.code != exitFailed || strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "prtwatch: kafka.brokers: 127.0.0.1:1: no answer within 1s: ") {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

func TestEveryCommandExplainsItselfWithAnExample(t *testing.T) {
	p := &program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	for _, c := range p.subcommands() {
		got := prtwatch("", c.Name(), "--help")
		if got.code != exitDone || !strings.Contains(got.stdout, "Examples:\n  ") || !strings.Contains(got.stdout, "--config FILE") {
			t.Errorf("%s: %+v", c.Name(), got)
		}
	}
}

func TestVersionSaysWhatItWasBuiltFrom(t *testing.T) {
	got := prtwatch("", "version")
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "prtwatch ") || !strings.Contains(got.stdout, "\ncommit ") || !strings.Contains(got.stdout, "\ngo1.") {
		t.Errorf("%+v", got)
	}
}

func TestConfigShowsWhereAValueCameFromAndNoSecret(t *testing.T) {
	cfg := file(t, "prtwatch.yaml", "kafka:\n  sasl: {mechanism: PLAIN, user: $ConnectionString, password: hunter2}\n")
	var stdout, stderr bytes.Buffer
	code := run([]string{"config", "--config", cfg, "--set", "detect.members=2"}, nil, &stdout, &stderr,
		[]string{"PRTWATCH_SPLIT__GROUP=mine", "PRTWATCH_TEST_BROKERS=x"})
	if code != exitDone || stderr.String() != "" {
		t.Fatal(code, &stderr)
	}
	for _, want := range []string{"    user: $ConnectionString", "# " + cfg + ":2, hidden\n", "# PRTWATCH_SPLIT__GROUP\n", "# --set\n", "  merge_wait: 5s"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &stdout)
		}
	}
	if strings.Contains(stdout.String(), "hunter2") {
		t.Error("the password is shown")
	}
	if got := prtwatch("", "config", "--check", "--config", cfg); got != (ended{}) {
		t.Errorf("%+v", got)
	}
}
