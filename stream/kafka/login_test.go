package kafka_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/brokertest"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

// unsigned is a token as a broker takes it that checks no signature: of a subject, for an hour.
func unsigned(subject string) string {
	part := func(v map[string]any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now().Unix()
	return part(map[string]any{"alg": "none"}) + "." + part(map[string]any{"sub": subject, "iat": now, "exp": now + 3600}) + "."
}

// Each way in is tried on the real broker: who comes by it is somebody, who may do nothing yet.
func TestEachWayIntoARealKafka(t *testing.T) {
	secure, ok := brokertest.RealSecure(t)
	if !ok {
		t.Skip("no real broker with security: see CONTRIBUTING.md")
	}
	brokertest.EachGuarded(t, func(t *testing.T, b *brokertest.Broker) {
		if !b.Real() {
			return
		}
		topic, user := b.Name("topic"), b.NewAccount("user")
		b.CreateTopic(topic, 1, nil)
		url, _ := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
			id, secret, _ := r.BasicAuth()
			if secret != secure.Password {
				w.WriteHeader(http.StatusUnauthorized)
				_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": "not " + cmp.Or(r.FormValue("client_secret"), secret)})
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": unsigned(id), "token_type": "Bearer", "expires_in": 3600})
		})
		overTLS := kafka.TLS{Enabled: true, CAFile: secure.CAFile, CertFile: secure.CertFile, KeyFile: secure.Key}
		for name, c := range map[string]kafka.Cluster{
			"PLAIN":         {SASL: kafka.SASL{Mechanism: kafka.MechanismPlain, User: secure.User, Password: kafka.Secret(secure.Password)}},
			"SCRAM-SHA-256": {SASL: kafka.SASL{Mechanism: kafka.MechanismScram256, User: user.Name, Password: kafka.Secret(user.Password)}},
			"SCRAM-SHA-512": {SASL: kafka.SASL{Mechanism: kafka.MechanismScram512, User: user.Name, Password: kafka.Secret(user.Password)}},
			"OAUTHBEARER":   {SASL: kafka.SASL{Mechanism: kafka.MechanismOAuthBearer, User: secure.User, Password: kafka.Secret(secure.Password), TokenURL: url}},
			"a certificate": {TLS: overTLS},
		} {
			t.Run(name, func(t *testing.T) {
				c.Brokers = []string{secure.SASL}
				if c.TLS.Enabled {
					c.Brokers = []string{secure.TLS}
				}
				if err := ping(t, c, 20*time.Second); err != nil {
					t.Fatal(err)
				}
				if _, err := kafka.Identify(limit(t), kadm.NewClient(client(t, c)), topic); kafka.Denied(err) == nil {
					t.Errorf("he is not asked who he is: %v", err)
				}
				key, parts := "kafka.sasl", []string{"refused", "user and password"}
				switch {
				case c.TLS.Enabled:
					c.TLS.CertFile, c.TLS.KeyFile = "", ""
					key, parts = "kafka.tls.cert_file", nil
				case c.SASL.TokenURL != "":
					c.SASL.Password = "canary"
					key, parts = "kafka.sasl.token_url", []string{"invalid_client", "not hidden"} // the endpoint repeated it
				default:
					c.SASL.Password = "canary"
				}
				err := ping(t, c, 2*time.Second)
				if refused(t, err, key, parts...); strings.Contains(fmt.Sprint(err), "canary") {
					t.Errorf("it repeats a secret: %v", err)
				}
			})
		}
	})
}

// What is wrong with a file under a running process is told by whoever connects next, and nothing of its content.
func TestAFileThatTurnsBadIsNamedAndNotQuoted(t *testing.T) {
	url, _ := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": "who is\n" + cmp.Or(r.FormValue("client_secret"), secret) + "?"})
	})
	tokens, _ := withTokens(t, 0, "never given")
	for name, c := range map[string]kafka.Cluster{
		"PLAIN":       {Brokers: withSASL(t, kafka.MechanismPlain).Addrs(), SASL: kafka.SASL{Mechanism: kafka.MechanismPlain, User: "prtwatch"}},
		"SCRAM":       {Brokers: withSASL(t, kafka.MechanismScram512).Addrs(), SASL: kafka.SASL{Mechanism: kafka.MechanismScram512, User: "prtwatch"}},
		"OAUTHBEARER": {Brokers: tokens, SASL: kafka.SASL{Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", TokenURL: url}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "password")
			c.SASL.PasswordFile = file
			write(t, file, []byte("canary\n"))
			var log bytes.Buffer
			opts, err := c.Options(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				what  string
				do    func() error
				key   string
				names string
			}{
				{"another content", func() error { return os.WriteFile(file, []byte("canary of another kind"), 0o600) }, "kafka.sasl", ""},
				{"nothing in it", func() error { return os.WriteFile(file, []byte("\n"), 0o600) }, "kafka.sasl.password_file", "it is empty"},
				{"no file", func() error { return os.Remove(file) }, "kafka.sasl.password_file", "no such file"},
				{"a folder", func() error { return os.Mkdir(file, 0o700) }, "kafka.sasl.password_file", "is a directory"},
			} {
				if err := step.do(); err != nil {
					t.Fatal(err)
				}
				cl, err := kgo.NewClient(opts...)
				if err != nil {
					t.Fatal(err)
				}
				err = kafka.Ping(limit(t), cl, "kafka", time.Second)
				cl.Close()
				if err == nil || !strings.HasPrefix(err.Error(), step.key) || !strings.Contains(err.Error(), step.names) ||
					step.names != "" && !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", step.what, err)
				}
				if strings.Contains(fmt.Sprint(err, log.String()), "canary") {
					t.Errorf("%s: a secret is in %v\n%s", step.what, err, &log)
				}
			}
			if !strings.Contains(log.String(), "sasl.") { // a line of its kind is written once a minute
				t.Errorf("the log does not name the key:\n%s", &log)
			}
		})
	}
}
