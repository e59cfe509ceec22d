package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/prtwatch/prtwatch/internal/broker"
	"github.com/prtwatch/prtwatch/stream/kafka"
)

const password = "correct horse" // of every user here

// ping makes a client of the cluster and asks whether it answers.
func ping(t *testing.T, c kafka.Cluster, patience time.Duration) error {
	t.Helper()
	if err := c.Validate("kafka"); err != nil {
		t.Fatalf("the section is not valid: %v", err)
	}
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	return kafka.Ping(context.Background(), cl, "kafka", patience)
}

// turnedDown pings a cluster that hangs up, for as long as it takes to hear of it: an attempt that a busy machine
// does not bring to its end in time says nothing.
func turnedDown(t *testing.T, c kafka.Cluster) error {
	t.Helper()
	for patience := 500 * time.Millisecond; ; patience *= 2 {
		err := ping(t, c, patience)
		if err == nil || patience > time.Minute || !strings.Contains(err.Error(), "i/o timeout") && !strings.Contains(err.Error(), "neither answered nor refused") {
			return err
		}
	}
}

// refused asserts that the error is one line that begins with the key and names what it should.
func refused(t *testing.T, err error, key string, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it answered")
	}
	line := err.Error()
	if !strings.HasPrefix(line, key+": ") || strings.Contains(line, "\n") || strings.Contains(line, password) {
		t.Errorf("not one line about %s: %s", key, line)
	}
	for _, part := range parts {
		if !strings.Contains(line, part) {
			t.Errorf("%q is not in: %s", part, line)
		}
	}
}

func withSASL(t *testing.T, mechanism string, more ...kfake.Opt) *broker.Embedded {
	t.Helper()
	return embedded(t, append(more, kfake.EnableSASL(), kfake.Superuser(mechanism, "prtwatch", password))...)
}

func embedded(t *testing.T, opts ...kfake.Opt) *broker.Embedded {
	t.Helper()
	e, err := broker.StartEmbedded(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestEachMechanismLogsIn(t *testing.T) {
	for _, mechanism := range []string{kafka.MechanismPlain, kafka.MechanismScram256, kafka.MechanismScram512} {
		t.Run(mechanism, func(t *testing.T) {
			c := kafka.Cluster{
				Brokers: withSASL(t, mechanism).Addrs(),
				SASL:    kafka.SASL{Mechanism: mechanism, User: "prtwatch", Password: password},
			}
			if err := ping(t, c, 10*time.Second); err != nil {
				t.Error(err)
			}
			c.SASL.Password = "wrong"
			// The fake hangs up; a real broker says why, and is not asked again.
			refused(t, turnedDown(t, c), "kafka.sasl", c.Brokers[0], "user and password")
		})
	}
}

func TestAPasswordFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, []byte(password+"\n"))
	c := kafka.Cluster{
		Brokers: withSASL(t, kafka.MechanismPlain).Addrs(),
		SASL:    kafka.SASL{Mechanism: kafka.MechanismPlain, User: "prtwatch", PasswordFile: file},
	}
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, []byte("an older one"))
	for _, renewed := range []bool{false, true} {
		patience := time.Second
		if renewed {
			write(t, file, []byte(password))
			patience = 10 * time.Second
		}
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := kafka.Ping(limit(t), cl, "kafka", patience); (err == nil) != renewed {
			t.Errorf("renewed %v: %v", renewed, err)
		}
	}
}

func TestAMechanismThatTheBrokerLacksIsNamed(t *testing.T) {
	c := kafka.Cluster{
		Brokers: withSASL(t, kafka.MechanismPlain).Addrs(),
		SASL:    kafka.SASL{Mechanism: kafka.MechanismScram512, User: "prtwatch", Password: password},
	}
	refused(t, turnedDown(t, c), "kafka.sasl", "mechanism")
}

func TestABrokerThatNobodyRunsGetsOneLineAfterThePatience(t *testing.T) {
	// A port that was free a moment ago may be another test's by now; this one is nobody's.
	const addr = "127.0.0.1:1"
	began := time.Now()
	err := ping(t, kafka.Cluster{Brokers: []string{addr}}, time.Second)
	refused(t, err, "kafka.brokers", addr, "no answer within 1s", "connection refused", "port")
	if took := time.Since(began); took < time.Second || took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestABrokerThatSaysNothingGetsOneLineAfterThePatience(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	began := time.Now()
	err = ping(t, kafka.Cluster{Brokers: []string{listener.Addr().String()}}, time.Second)
	refused(t, err, "kafka.brokers", "no answer within 1s", "neither answered nor refused")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAHostWithoutAddressIsNamed(t *testing.T) {
	err := ping(t, kafka.Cluster{Brokers: []string{"kafka.invalid:9092"}}, time.Second)
	refused(t, err, "kafka.brokers", "kafka.invalid:9092", "no answer within 1s")
}

func TestABrokerThatComesUpLateIsWaitedFor(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cl := client(t, kafka.Cluster{Brokers: []string{listener.Addr().String()}})
	answered := make(chan error, 1)
	go func() { answered <- kafka.Ping(context.Background(), cl, "kafka", 20*time.Second) }()

	early, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	early.Close() // as a broker does that is starting
	embedded(t, kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }))
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestPingEndsWithItsContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- kafka.Ping(ctx, cl, "kafka", time.Minute) }()
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestTLSOfTheBrokerIsChecked(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	addrs := embedded(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "kafka.example.com")}})).Addrs()
	secure := func(caFile, serverName string) kafka.Cluster {
		return kafka.Cluster{Brokers: addrs, TLS: kafka.TLS{Enabled: true, CAFile: caFile, ServerName: serverName}}
	}
	if err := ping(t, secure(ca.file, ""), 5*time.Second); err != nil {
		t.Errorf("by address: %v", err)
	}
	if err := ping(t, secure(ca.file, "kafka.example.com"), 5*time.Second); err != nil {
		t.Errorf("by name: %v", err)
	}
	refused(t, ping(t, secure(other.file, ""), 5*time.Second), "kafka.tls.ca_file")
	refused(t, ping(t, secure(ca.file, "another.example.com"), 5*time.Second), "kafka.tls", "server_name")
	refused(t, turnedDown(t, kafka.Cluster{Brokers: addrs}), "kafka.tls.enabled")
	plain := kafka.Cluster{Brokers: embedded(t).Addrs(), TLS: kafka.TLS{Enabled: true}}
	refused(t, ping(t, plain, time.Second), "kafka.brokers", "speaks TLS") // it says nothing to a greeting of TLS
}

func TestClientsShowTheirCertificate(t *testing.T) {
	ca := newAuthority(t)
	addrs := embedded(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "kafka.example.com")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    ca.pool,
	})).Addrs()
	with := kafka.Cluster{Brokers: addrs, TLS: kafka.TLS{Enabled: true, CAFile: ca.file}}
	refused(t, turnedDown(t, with), "kafka.tls.cert_file")

	with.TLS.CertFile, with.TLS.KeyFile = save(t, ca.issue(t, "prtwatch"))
	if err := ping(t, with, 5*time.Second); err != nil {
		t.Error(err)
	}
}

func TestFilesOfTLSAreReadAgain(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	addrs := embedded(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "kafka.example.com")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    ca.pool,
	})).Addrs()
	certFile, keyFile := save(t, ca.issue(t, "prtwatch"))
	oldCert, oldKey := save(t, other.issue(t, "prtwatch"))
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	c := kafka.Cluster{Brokers: addrs, TLS: kafka.TLS{Enabled: true, CAFile: caFile, CertFile: filepath.Join(t.TempDir(), "cert.pem"), KeyFile: filepath.Join(t.TempDir(), "key.pem")}}
	install := func(ca, cert, key string) {
		for to, from := range map[string]string{caFile: ca, c.TLS.CertFile: cert, c.TLS.KeyFile: key} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			write(t, to, data)
		}
	}
	install(other.file, oldCert, oldKey)
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name          string
		ca, cert, key string
		answers       bool
	}{
		{"an authority that did not sign the broker's certificate", other.file, oldCert, oldKey, false},
		{"a certificate that the broker does not take", ca.file, oldCert, oldKey, false},
		{"both renewed", ca.file, certFile, keyFile, true},
	} {
		install(step.ca, step.cert, step.key)
		patience := time.Second
		if step.answers {
			patience = 10 * time.Second
		}
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := kafka.Ping(limit(t), cl, "kafka", patience); (err == nil) != step.answers {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

func TestSASLOverTLS(t *testing.T) {
	ca := newAuthority(t)
	e := withSASL(t, kafka.MechanismPlain, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "kafka.example.com")}}))
	c := kafka.Cluster{
		Brokers: e.Addrs(),
		TLS:     kafka.TLS{Enabled: true, CAFile: ca.file},
		SASL:    kafka.SASL{Mechanism: kafka.MechanismPlain, User: "prtwatch", Password: password},
	}
	if err := ping(t, c, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool(), file: filepath.Join(t.TempDir(), "ca.pem")}
	a.pool.AddCert(cert)
	write(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue makes a certificate for the name and for 127.0.0.1, for either side.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func save(t *testing.T, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certFile, keyFile
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
