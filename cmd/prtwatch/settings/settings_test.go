package settings

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// write makes a configuration file of the test and changes to its folder, so that errors
// name it prtwatch.yaml.
func write(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("prtwatch.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "prtwatch.yaml"
}

func load(t *testing.T, sources Sources) *Settings {
	t.Helper()
	s, err := Load(sources)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheDefaultsAreValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
}

// Who is not on this machine has to be let in on purpose: /metrics asks nobody who he is.
func TestHTTPIsForThisMachineAloneByDefault(t *testing.T) {
	address, err := netip.ParseAddrPort(load(t, Sources{}).HTTP.Listen)
	if err != nil || !address.Addr().IsLoopback() {
		t.Errorf("http.listen is %v (%v)", address, err)
	}
}

func TestTheLaterSourceWins(t *testing.T) {
	file := write(t, "kafka: {brokers: [file:1], tls: {enabled: true}}\nsplit: {merge_wait: 1s, group: from-file}\n")
	environ := []string{"PRTWATCH_KAFKA__BROKERS=env-1:1, env-2:1", "PRTWATCH_SPLIT__MERGE_WAIT=2s", "HOME=/"}
	s := load(t, Sources{File: file, Environ: environ, Set: []string{"split.merge_wait=3s", "split.merge_wait=4s"}})
	if got, want := s.Kafka.Brokers, []string{"env-1:1", "env-2:1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("brokers %q, not %q", got, want)
	}
	if s.Split.MergeWait != 4*time.Second || s.Split.Group != "from-file" || !s.Kafka.TLS.Enabled {
		t.Errorf("%+v %+v", s.Split, s.Kafka.TLS)
	}
	for key, want := range map[string]string{
		"kafka.brokers":     "PRTWATCH_KAFKA__BROKERS",
		"kafka.tls.enabled": "prtwatch.yaml:1",
		"split.group":       "prtwatch.yaml:2",
		"split.merge_wait":  "--set",
		"detect.group":      "default",
	} {
		if got := s.origin(key); got != want {
			t.Errorf("%s came from %s, not %s", key, got, want)
		}
	}
}

func TestAShorterListReplacesItsDefault(t *testing.T) {
	s := load(t, Sources{Set: []string{"detection.resources=Microsoft Intune"}})
	if got := s.Detection.Resources; !reflect.DeepEqual(got, []string{"Microsoft Intune"}) {
		t.Errorf("%q", got)
	}
	if got := Default().Detection.Resources; len(got) != 5 || got[0] != "Microsoft Intune" {
		t.Errorf("the defaults were changed: %q", got)
	}
}

func TestAnEmptyValueIsTheEmptyList(t *testing.T) {
	s := load(t, Sources{
		File:    write(t, "detection: {allowlist: [a.txt]}"),
		Environ: []string{"PRTWATCH_DETECTION__ALLOWLIST="},
	})
	if len(s.Detection.Allowlist) != 0 {
		t.Errorf("%q", s.Detection.Allowlist)
	}
}

func TestAKeyWithoutValueKeepsItsDefault(t *testing.T) {
	s := load(t, Sources{File: write(t, "kafka:\nsplit: {group: }\nstate:\n  dir: # none\n")})
	if s.Split.Group != "prtwatch-split" || s.State.Dir != "./prtwatch-state" {
		t.Errorf("%+v %+v", s.Split, s.State)
	}
}

func TestScalarsOfTheFileAreReadAsTheyAreWritten(t *testing.T) {
	s := load(t, Sources{File: write(t, "kafka: {sasl: {mechanism: PLAIN, user: 007, password: 0x10}}\nstate: {cache: 32MiB}")})
	if s.Kafka.SASL.User != "007" || s.Kafka.SASL.Password != "0x10" || s.State.Cache != 32<<20 {
		t.Errorf("%+v %v", s.Kafka.SASL, s.State.Cache)
	}
}

func TestOnlyTheBracedFormIsExpandedAndOnlyInTheFile(t *testing.T) {
	file := write(t, `
kafka:
  sasl: {mechanism: PLAIN, user: $ConnectionString, password: "a${SECRET}b$SECRET"}
`)
	s := load(t, Sources{File: file, Environ: []string{"SECRET=x: ${y}", "PRTWATCH_INSTANCE=${SECRET}"}})
	if s.Kafka.SASL.User != "$ConnectionString" || s.Kafka.SASL.Password != "ax: ${y}b$SECRET" || s.Instance != "${SECRET}" {
		t.Errorf("%+v %q", s.Kafka.SASL, s.Instance)
	}
}

func TestInputIsTheOneClusterUnlessItHasBrokers(t *testing.T) {
	one := load(t, Sources{Set: []string{"kafka.brokers=k:1", "kafka.tls.enabled=true"}})
	if c := one.InputCluster(); c.Brokers[0] != "k:1" || !c.TLS.Enabled {
		t.Errorf("%+v", c)
	}
	two := load(t, Sources{Set: []string{"kafka.tls.enabled=true", "input.brokers=hub:1"}})
	if c := two.InputCluster(); c.Brokers[0] != "hub:1" || c.TLS.Enabled {
		t.Errorf("%+v", c)
	}
}

func TestWhatKubernetesAndTestsSetIsNoKey(t *testing.T) {
	load(t, Sources{Environ: []string{
		"PRTWATCH_TEST_BROKERS=127.0.0.1:1", "PRTWATCH_SERVICE_HOST=10.0.0.1", "PRTWATCH_SERVICE_PORT=9187", "PRTWATCH_PORT=tcp://10.0.0.1:9187",
		"PRTWATCH_SERVICE_PORT_HTTP=9187", "PRTWATCH_PORT_9187_TCP=x", "PRTWATCH_PORT_9187_TCP_ADDR=x", "PRTWATCH_KAFKA_SERVICE_HOST=x",
	}})
}

func TestAWrongTurnIsOneLineThatNamesItAndTheRemedy(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		environ string
		set     string
		want    string
	}{
		{name: "unknown key", file: "kafka:\n  broker: [a:1]", want: "prtwatch.yaml:2: there is no key kafka.broker; did you mean kafka.brokers?"},
		{name: "unknown section", file: "kafak: {brokers: [a:1]}", want: "prtwatch.yaml:1: there is no key kafak; did you mean kafka?"},
		{name: "key without its section", file: "merge_wait: 5s", want: "prtwatch.yaml:1: there is no key merge_wait; did you mean split.merge_wait?"},
		{name: "nothing near", environ: "PRTWATCH_ALERT_TOKEN=x", want: "PRTWATCH_ALERT_TOKEN: there is no key alert_token; prtwatch config prints all there are"},
		{name: "nothing near in the section", set: "kafka.colour=red", want: "--set: there is no key kafka.colour; kafka has tls, sasl, brokers"},
		{name: "no key", set: "=3", want: `--set "=3": the key is missing; write --set KEY=VALUE`},
		{name: "no key and no value", set: " ", want: `--set " ": the key is missing; write --set KEY=VALUE`},
		{name: "no key in the environment", environ: "PRTWATCH_=3", want: "PRTWATCH_: the key is missing; name one, such as PRTWATCH_KAFKA__BROKERS"},
		{name: "no key in the file", file: "'': 3", want: "prtwatch.yaml:1: the key is missing; name one, such as kafka.brokers"},
		{name: "key twice", file: "log: {level: info}\nlog: {level: warn}", want: "prtwatch.yaml:2: log: is given twice, first in line 1"},
		{name: "syntax", file: "kafka:\n  brokers: [a:1\nlog: {}\n", want: "prtwatch.yaml:2: reading YAML: did not find expected ',' or ']'"},
		{name: "tab", file: "kafka:\n\tbrokers: [a:1]", want: "prtwatch.yaml:2: reading YAML: found character that cannot start any token"},
		{name: "scalar for a section", file: "kafka: a:1", want: "prtwatch.yaml:1: kafka: is a section, with the keys tls, sasl, brokers"},
		{name: "no keys", file: "just text", want: "prtwatch.yaml:1: the file must be keys with values, such as kafka: {brokers: [127.0.0.1:9092]}"},
		{name: "section for a scalar", file: "log: {level: {a: b}}", want: "prtwatch.yaml:1: log.level: holds a value, not a section"},
		{name: "list for a scalar", file: "log: {level: [info]}", want: "prtwatch.yaml:1: log.level: needs one value, not a list"},
		{name: "scalar for a list", file: "kafka: {brokers: a:1}", want: "prtwatch.yaml:1: kafka.brokers: needs a list, such as [a:1]"},
		{name: "duration without unit", file: "split: {merge_wait: 5}", want: `prtwatch.yaml:1: split.merge_wait: "5" has no unit: write 5s if seconds are meant (units: ms, s, m, h)`},
		{name: "unset reference", file: "kafka: {sasl: {password: '${NO_SUCH}'}}", want: "prtwatch.yaml:1: kafka.sasl.password: the environment has no NO_SUCH: export it, or write the value here in place of ${NO_SUCH}"},
		{name: "second document", file: "log: {level: info}\n---\nlog: {level: warn}\n", want: "prtwatch.yaml:1: a second YAML document begins: keep one"},
		{name: "environment", environ: "PRTWATCH_KAFKA_BROKERS=a:1", want: "PRTWATCH_KAFKA_BROKERS: there is no key kafka_brokers; did you mean PRTWATCH_KAFKA__BROKERS?"},
		{name: "number in the environment", environ: "PRTWATCH_DETECT__MEMBERS=two", want: `PRTWATCH_DETECT__MEMBERS: detect.members: "two" is not a whole number, such as 32`},
		{name: "flag", set: "kafka.tls.enabled=yes", want: `--set: kafka.tls.enabled: "yes" is neither true nor false`},
		{name: "set a section", set: "split=x", want: "--set: split is a section; set one of its keys: group, merge_wait"},
		{name: "set without value", set: "split.group", want: "--set split.group: needs a value: write --set split.group=VALUE"},
		{name: "size", set: "state.cache=much", want: `--set: state.cache: "much" is no size in bytes: write it like 256MiB`},
		{name: "delivery", file: "delivery: at-most-once", want: `delivery: "at-most-once" is not a way to deliver; use exactly-once, or at-least-once where the brokers have no transactions (set in prtwatch.yaml:1)`},
		{name: "a section's own bounds", set: "detect.transaction=20s", want: "detect.transaction: "},
		{name: "security of an input without brokers", set: "input.tls.enabled=true", want: "input.brokers: is empty, so that kafka.brokers"},
		{name: "address", set: "http.listen=9187", want: `http.listen: "9187" is not host:port, such as 127.0.0.1:9187 (set in --set)`},
		{name: "level", environ: "PRTWATCH_LOG__LEVEL=loud", want: `log.level: "loud" is not a level; use debug, info, warn or error (set in PRTWATCH_LOG__LEVEL)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sources Sources
			if test.file != "" {
				sources.File = write(t, test.file)
			}
			if test.environ != "" {
				sources.Environ = []string{test.environ}
			}
			if test.set != "" {
				sources.Set = []string{test.set}
			}
			_, err := Load(sources)
			if err == nil {
				t.Fatal("it was taken")
			}
			if got := strings.Split(err.Error(), "\n")[0]; !strings.HasPrefix(got, test.want) {
				t.Errorf("got:  %s\nwant: %s", got, test.want)
			}
		})
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	_, err := Load(Sources{
		File:    write(t, "kafkaa: 1\nlog: {levle: info}"),
		Environ: []string{"PRTWATCH_INSTANC=1"},
		Set:     []string{"delivry=1"},
	})
	if got := strings.Count(err.Error(), "did you mean"); got != 4 {
		t.Errorf("%d of 4 problems in:\n%v", got, err)
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml")})
	if err == nil || !strings.Contains(err.Error(), "none.yaml: no such file or directory; name a YAML file") {
		t.Error(err)
	}
}

func TestAFolderIsNoConfiguration(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(Sources{File: dir})
	if want := "--config " + dir + ": is a directory; name a YAML file that can be read"; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
}

func TestOnlyANearNameIsSuggested(t *testing.T) {
	names := []string{"config", "demo", "gen", "replay", "run", "topics", "version"}
	for given, want := range map[string]string{
		"relpay": "replay", "topic": "topics", "verson": "version", "rnu": "", "rum": "run", "cofnig": "config",
		"nosuch": "", "x": "", "": "", "detect": "", "generate": "",
	} {
		if got := Nearest(given, names); got != want {
			t.Errorf("%q: %q, not %q", given, got, want)
		}
	}
}

func TestAPasswordThatIsNoYAMLIsNotQuotedInTheError(t *testing.T) {
	for _, password := range []string{"*hunter2", "!hunter2", "&hunter2 [", "{hunter2}", "[hunter2]", "@hunter2", "%hunter2", "\"hunter2"} {
		_, err := Load(Sources{File: write(t, "kafka:\n  sasl:\n    password: "+password+"\n")})
		if err == nil {
			t.Errorf("%s was taken", password)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

// TestEveryTextIsShownOnPurposeOrHidden fills every key that can hold a text and looks for
// it in what is printed.
func TestEveryTextIsShownOnPurposeOrHidden(t *testing.T) {
	secret := regexp.MustCompile(`password|secret|token|credential`)
	hidden := map[string]bool{"input.sasl.password": true, "kafka.sasl.password": true}
	s := load(t, Sources{})
	for _, l := range s.schema.leaves {
		if !shownKeys[l.key] && !hidden[l.key] {
			t.Errorf("%s is on neither list: decide whether it may be shown", l.key)
		}
		if shownKeys[l.key] && secret.MatchString(l.key) && !strings.HasSuffix(l.key, "_file") && !strings.HasSuffix(l.key, "_url") {
			t.Errorf("%s is shown", l.key)
		}
		if v := s.field(l.key); l.kind.Kind() == reflect.String {
			v.SetString("canary-" + l.key)
		}
	}
	var out strings.Builder
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, l := range s.schema.leaves {
		if l.kind.Kind() == reflect.String && strings.Contains(out.String(), "canary-"+l.key+" ") != shownKeys[l.key] {
			t.Errorf("%s is shown and should not be, or the other way around, in:\n%s", l.key, &out)
		}
	}
}

func TestWhatIsPrintedLoadsAgain(t *testing.T) {
	s := load(t, Sources{Set: []string{
		"instance=a,b#[c]{d}:e'", "kafka.brokers=a:1,b:2", "detection.allowlist=x y.txt,#z,*", "split.merge_wait=1500ms", "state.lateness=49h",
		"kafka.sasl.mechanism=PLAIN", "kafka.sasl.user=$ConnectionString", "kafka.sasl.password=hunter2", "http.listen=:0",
	}})
	var out strings.Builder
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "# --set, hidden\n") {
		t.Errorf("it does not say that there is a password:\n%s", &out)
	}
	again := load(t, Sources{File: write(t, out.String()), Set: []string{"kafka.sasl.password=hunter2"}})
	if !reflect.DeepEqual(again.Config, s.Config) {
		t.Errorf("%+v\nis not\n%+v\nof\n%s", again.Config, s.Config, &out)
	}
}
