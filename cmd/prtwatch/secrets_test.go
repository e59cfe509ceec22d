package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prtwatch/prtwatch/internal/brokertest"
)

// canary begins every secret of these tests.
const canary = "canary"

func wantNoSecret(t *testing.T, where, text, secret string) {
	t.Helper()
	if strings.Contains(text, secret) || strings.Contains(text, canary) {
		t.Errorf("a secret is in %s:\n%s", where, text)
	}
}

// An instance logs in with a password that was given in each of the ways there are, logs all it can, and shows the
// password nowhere.
func TestAnInstanceShowsNoSecret(t *testing.T) {
	for name, given := range map[string]func(t *testing.T, secret string) (args, environ []string){
		"--set": func(_ *testing.T, secret string) ([]string, []string) {
			return []string{"--set", "kafka.sasl.password=" + secret}, nil
		},
		"the environment": func(_ *testing.T, secret string) ([]string, []string) {
			return nil, []string{"PRTWATCH_KAFKA__SASL__PASSWORD=" + secret}
		},
		"the file": func(t *testing.T, secret string) ([]string, []string) {
			return []string{"--config", file(t, "prtwatch.yaml", "kafka: {sasl: {password: "+secret+"}}\n")}, nil
		},
		"the file by the environment": func(t *testing.T, secret string) ([]string, []string) {
			return []string{"--config", file(t, "prtwatch.yaml", "kafka: {sasl: {password: '${PASSWORD}'}}\n")}, []string{"PASSWORD=" + secret}
		},
		"a file of its own": func(t *testing.T, secret string) ([]string, []string) {
			return []string{"--set", "kafka.sasl.password_file=" + file(t, "password", secret+"\n")}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.FakeGuarded(t)
			in := newInstallation(t, b)
			user, flags := in.account("shown", rightsOf(rights(t), "split", "detect", "exactly-once"))
			flags = slices.DeleteFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "kafka.sasl.password=") })
			flags = append(flags[:len(flags)-1], "--set", "log.level=debug")
			// Its own flags of a login must not be there: the last one wins, and a password beside a file is an error.
			in.config = slices.Clone(in.config)
			for i, flag := range in.config {
				if strings.HasPrefix(flag, "kafka.sasl.password=") {
					in.config = slices.Delete(in.config, i-1, i+1)
					break
				}
			}
			args, environ := given(t, user.Password)
			args = append(flags, args...)
			in.fill(1, 3)
			i := in.startIn(environ, t.TempDir(), args...)
			in.done()
			for _, path := range []string{"/metrics", "/readyz", "/livez", "/", "/debug/pprof/", "/debug/vars"} {
				_, body := get(t, "http://"+i.address()+path)
				wantNoSecret(t, path, body, user.Password)
			}
			i.stop()
			wantNoSecret(t, "the log", i.log.String(), user.Password)
			if !strings.Contains(i.log.String(), "level=DEBUG") {
				t.Error("it logs less than it can")
			}
			config := process(t, slices.Concat([]string{"config"}, in.config, args)...)
			config.Env = append(config.Env, environ...)
			out, err := config.CombinedOutput()
			if wantNoSecret(t, "config", string(out), user.Password); err != nil || !strings.Contains(string(out), "mechanism: SCRAM-SHA-256") {
				t.Errorf("config: %v\n%s", err, out)
			}
		})
	}
}

// Nor does a command that cannot get in.
func TestWhoIsNotLetInShowsNoSecret(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": "no " + cmp.Or(r.FormValue("client_secret"), secret)})
	}))
	t.Cleanup(endpoint.Close)
	b := brokertest.FakeGuarded(t)
	secret := canary + " with +%& in it"
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, login := range map[string]string{
		"PLAIN":           "sasl.mechanism=PLAIN sasl.user=u sasl.password_file=" + password,
		"SCRAM":           "sasl.mechanism=SCRAM-SHA-256 sasl.user=u sasl.password_file=" + password,
		"OAUTHBEARER":     "sasl.mechanism=OAUTHBEARER sasl.user=u sasl.password_file=" + password + " sasl.token_url=" + endpoint.URL,
		"no such setting": "sasl.mechanism=NONE sasl.user=u sasl.password_file=" + password,
		"two of them":     "sasl.mechanism=PLAIN sasl.user=u sasl.password=canary sasl.password_file=" + password,
	} {
		for _, section := range []string{"kafka", "input"} {
			for _, command := range []string{"run", "topics", "gen"} {
				args := []string{
					command, "--set", "kafka.brokers=" + b.Addrs()[0], "--set", "input.brokers=" + b.Addrs()[0],
					"--set", "log.level=debug", "--set", "start_timeout=1s", "--set", "state.dir=" + t.TempDir(),
				}
				for setting := range strings.SplitSeq(login, " ") {
					if strings.HasPrefix(setting, "sasl.") {
						args = append(args, "--set", section+"."+setting)
					}
				}
				got := prtwatch("", args...)
				if got.code == exitDone {
					t.Errorf("%s of %s: %s went well", name, section, command)
				}
				wantNoSecret(t, name+" of "+section+": "+command, got.stdout+got.stderr, secret)
			}
		}
	}
}
