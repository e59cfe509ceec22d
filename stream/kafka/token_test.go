package kafka_test

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/prtwatch/prtwatch/stream/kafka"
)

// withTokens is a broker that takes these tokens, each for as long as a connection may last then. The fake has no
// OAUTHBEARER, so the two requests of a login are answered for it.
func withTokens(t *testing.T, lifetime time.Duration, tokens ...string) (addrs []string, logins *atomic.Int64) {
	t.Helper()
	e := embedded(t)
	logins = new(atomic.Int64)
	e.Cluster.ControlKey(int16(kmsg.SASLHandshake), func(request kmsg.Request) (kmsg.Response, error, bool) {
		e.Cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLHandshakeResponse)
		response.SupportedMechanisms = []string{kafka.MechanismOAuthBearer}
		if request.(*kmsg.SASLHandshakeRequest).Mechanism != kafka.MechanismOAuthBearer {
			response.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return response, nil, true
	})
	e.Cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(request kmsg.Request) (kmsg.Response, error, bool) {
		e.Cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		response.SessionLifetimeMillis = lifetime.Milliseconds()
		said := string(request.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)
		for _, token := range tokens {
			if said == "n,,\x01auth=Bearer "+token+"\x01\x01" {
				logins.Add(1)
				return response, nil, true
			}
		}
		response.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return response, nil, true
	})
	return e.Addrs(), logins
}

// tokenServer answers whatever asks, and counts how often.
func tokenServer(t *testing.T, answer http.HandlerFunc) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// secureTokenServer is one whose certificate an authority signed.
func secureTokenServer(t *testing.T, ca *authority, answer http.HandlerFunc) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "login.example.com")}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // who is not trusted is told so by each handshake
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// give answers with a token that is good for an hour.
func give(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

func TestOAuthLogsInWithATokenOfItsEndpoint(t *testing.T) {
	secretFile := filepath.Join(t.TempDir(), "secret")
	write(t, secretFile, []byte(password+"\n"))
	url, asked := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka other" || id != "prtwatch" || secret != strings.ReplaceAll(password, " ", "+") {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_client", "error_description": "no such client"})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "let me in", "token_type": "Bearer", "expires_in": 3600})
	})
	addrs, logins := withTokens(t, 0, "let me in")
	c := kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{
		Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", PasswordFile: secretFile, TokenURL: url, Scope: "kafka other",
	}}
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := kafka.Ping(limit(t), cl, "kafka", 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if logins.Load() < 3 || asked.Load() != 1 {
		t.Errorf("%d logins with %d tokens", logins.Load(), asked.Load())
	}
	write(t, secretFile, []byte("wrong"))
	refused(t, ping(t, c, time.Second), "kafka.sasl.token_url", url, "prtwatch", "invalid_client", "no such client")
}

func TestATokenEndpointIsAskedOnlyWhereItsAuthorityIsTrusted(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	var asked atomic.Int64
	url := secureTokenServer(t, ca, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		give(w, "let me in")
	})
	addrs, _ := withTokens(t, 0, "let me in")
	with := func(caFile string) kafka.Cluster {
		return kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{
			Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", Password: password, TokenURL: url, TokenCAFile: caFile,
		}}
	}
	refused(t, ping(t, with(""), time.Second), "kafka.sasl.token_ca_file", url, "nobody whom the system trusts", "name a file")
	refused(t, ping(t, with(other.file), time.Second), "kafka.sasl.token_ca_file", other.file, url, "none that it holds")
	if asked.Load() != 0 {
		t.Error("the secret was sent to who is not trusted")
	}
	if err := ping(t, with(ca.file), 10*time.Second); err != nil {
		t.Error(err)
	}
}

func TestTheFileOfATokenEndpointsAuthoritiesIsReadAgain(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	url := secureTokenServer(t, ca, func(w http.ResponseWriter, _ *http.Request) { give(w, "let me in") })
	addrs, _ := withTokens(t, 0, "let me in")
	file := filepath.Join(t.TempDir(), "ca.pem")
	contents := map[string][]byte{}
	for name, from := range map[string]string{"another": other.file, "the right one": ca.file} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		contents[name] = data
	}
	contents["none"] = []byte("no certificate")
	write(t, file, contents["another"])
	opts, err := kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{
		Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", Password: password, TokenURL: url, TokenCAFile: file,
	}}.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, wrong string }{
		{"another", "none that it holds"}, {"none", "no PEM certificate"}, {"the right one", ""},
	} {
		write(t, file, contents[step.name])
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if step.wrong != "" {
			refused(t, kafka.Ping(limit(t), cl, "kafka", time.Second), "kafka.sasl.token_ca_file", file, step.wrong)
		} else if err := kafka.Ping(limit(t), cl, "kafka", 10*time.Second); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

// A body is sent on by 307 and 308, and the client's secret may be in it.
func TestTheSecretGoesNowhereThatATokenEndpointRedirectsTo(t *testing.T) {
	addrs, _ := withTokens(t, 0, "let me in")
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			elsewhere, asked := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) { give(w, "let me in") })
			url, _ := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
				_, secret, _ := r.BasicAuth()
				http.Redirect(w, r, elsewhere+"/token?was="+cmp.Or(r.FormValue("client_secret"), secret), status)
			})
			c := kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", Password: "canary", TokenURL: url}}
			err := ping(t, c, time.Second)
			refused(t, err, "kafka.sasl.token_url", url, http.StatusText(status), elsewhere+"/token", "not followed")
			if asked.Load() != 0 || strings.Contains(err.Error(), "canary") {
				t.Errorf("it was asked %d times: %v", asked.Load(), err)
			}
		})
	}
}

func TestATokenIsRenewedWhenItEnds(t *testing.T) {
	var given atomic.Int64
	url, asked := tokenServer(t, func(w http.ResponseWriter, _ *http.Request) {
		token := []string{"first", "second"}[min(given.Add(1), 2)-1]
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 11}) // which is good for a second: ten are kept in hand
	})
	addrs, logins := withTokens(t, 5*time.Second, "first", "second") // the shortest that the client makes use of
	cl := client(t, kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{Mechanism: kafka.MechanismOAuthBearer, User: "prtwatch", Password: password, TokenURL: url}})
	for deadline := time.Now().Add(time.Minute); asked.Load() < 2 || logins.Load() < 2; {
		if err := kafka.Ping(limit(t), cl, "kafka", 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d logins with %d tokens in a minute", logins.Load(), asked.Load())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A managed identity of Azure App Service is asked for over plain HTTP, so that all of azidentity's chain takes part.
func TestAzureLogsInWithAManagedIdentity(t *testing.T) {
	url, asked := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != "from the platform" || r.FormValue("resource") != "https://prtwatch.servicebus.windows.net" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "of the identity", "token_type": "Bearer", "resource": r.FormValue("resource"), "expires_on": time.Now().Add(time.Hour).Unix()})
	})
	for _, name := range []string{"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_USERNAME", "AZURE_FEDERATED_TOKEN_FILE"} {
		t.Setenv(name, "") // which is put back at the end
		os.Unsetenv(name)
	}
	t.Setenv("IDENTITY_ENDPOINT", url)
	t.Setenv("IDENTITY_HEADER", "from the platform")
	addrs, _ := withTokens(t, 0, "of the identity")
	c := kafka.Cluster{Brokers: addrs, SASL: kafka.SASL{
		Mechanism: kafka.MechanismOAuthBearer, Azure: true, Scope: "https://prtwatch.servicebus.windows.net/.default",
	}}
	if err := ping(t, c, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 1 {
		t.Errorf("%d tokens were asked for", asked.Load())
	}
	c.SASL.Scope = "https://another.example.com/.default"
	refused(t, ping(t, c, time.Second), "kafka.sasl.azure", "https://another.example.com/.default")
}

func TestKeysOfOAuthThatAreWrongAreNamed(t *testing.T) {
	const https = "https://login.example.com/token"
	ca, noCA := newAuthority(t).file, filepath.Join(t.TempDir(), "ca.pem")
	write(t, noCA, []byte("secret@"))
	for _, c := range []struct {
		name string
		sasl kafka.SASL
		want []string // keys
	}{
		{"neither azure nor an endpoint", kafka.SASL{User: "prtwatch", Password: password}, []string{"token_url"}},
		{"nobody to log in as", kafka.SASL{TokenURL: https}, []string{"user", "password"}},
		{"no URL", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "login.example.com"}, []string{"token_url"}},
		{"in the clear", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "http://login.example.com/token"}, []string{"token_url"}},
		{"a secret in the URL", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "https://prtwatch:secret@login.example.com/token"}, []string{"token_url"}},
		{"a secret in a URL without a host", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "https://prtwatch:secret@"}, []string{"token_url"}},
		{"a secret in what is no URL", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "https://prtwatch:%secret@login.example.com"}, []string{"token_url"}},
		{"azure and a login", kafka.SASL{Azure: true, User: "prtwatch", Password: password}, []string{"user", "password"}},
		{"azure and an endpoint", kafka.SASL{Azure: true, TokenURL: "https://prtwatch:secret@login.example.com/token"}, []string{"token_url"}},
		{"authorities of an endpoint", kafka.SASL{User: "prtwatch", Password: password, TokenURL: https, TokenCAFile: ca}, nil},
		{"no such file of them", kafka.SASL{User: "prtwatch", Password: password, TokenURL: https, TokenCAFile: noCA + ".old"}, []string{"token_ca_file"}},
		{"no certificate in it", kafka.SASL{User: "prtwatch", Password: password, TokenURL: https, TokenCAFile: noCA}, []string{"token_ca_file"}},
		{"authorities of an endpoint in the clear", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "http://127.0.0.1:1/token", TokenCAFile: ca}, []string{"token_ca_file"}},
		{"azure and the authorities of an endpoint", kafka.SASL{Azure: true, TokenCAFile: ca}, []string{"token_ca_file"}},
		{"an endpoint in the clear on this machine", kafka.SASL{User: "prtwatch", Password: password, TokenURL: "http://127.0.0.1:1/token"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.sasl.Mechanism = kafka.MechanismOAuthBearer
			err := kafka.Cluster{Brokers: []string{"127.0.0.1:9092"}, SASL: c.sasl}.Validate("kafka")
			var keys []string
			if err != nil {
				for line := range strings.Lines(err.Error()) {
					key, _, _ := strings.Cut(line, ":")
					keys = append(keys, strings.TrimPrefix(key, "kafka.sasl."))
				}
				if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "secret@") {
					t.Errorf("a secret is in %q", err)
				}
			}
			if strings.Join(keys, " ") != strings.Join(c.want, " ") {
				t.Errorf("it names %q, not %q: %v", keys, c.want, err)
			}
		})
	}
}
