package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"time"
)

// TLS is the section `tls` of a cluster. The files are PEM.
type TLS struct {
	Enabled    bool   `koanf:"enabled"`
	CAFile     string `koanf:"ca_file"`     // who may sign the brokers' certificates; empty: whom the system trusts
	CertFile   string `koanf:"cert_file"`   // our certificate, where brokers ask for one
	KeyFile    string `koanf:"key_file"`    // and its key
	ServerName string `koanf:"server_name"` // what the brokers' certificates are issued to, where not to their host
}

func (t TLS) validate(report func(key, value, remedy string)) {
	if !t.Enabled {
		for _, unused := range []struct{ key, value string }{
			{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}, {"server_name", t.ServerName},
		} {
			if unused.value != "" {
				report("tls."+unused.key, unused.value, "TLS is off; set tls.enabled to true or leave this away")
			}
		}
		return
	}
	if t.CertFile != "" && t.KeyFile == "" {
		report("tls.key_file", `""`, "name the key that belongs to cert_file")
	}
	if t.KeyFile != "" && t.CertFile == "" {
		report("tls.cert_file", `""`, "name the certificate that belongs to key_file")
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return
	}
	if _, problem := t.config(); problem != nil {
		report(problem.Key, problem.Value, problem.Remedy)
	}
}

// dialWithin is how long a connection may take to be made, which is the client's default.
const dialWithin = 10 * time.Second

// dial connects to a broker. The files are read for every connection: authorities and
// certificates are renewed under a running process.
func (t TLS) dial(ctx context.Context, network, address string) (net.Conn, error) {
	config, problem := t.config()
	if problem != nil {
		return nil, problem
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialWithin}, Config: config}
	return d.DialContext(ctx, network, address)
}

// config reads the files. The problem's key lacks the section.
func (t TLS) config() (*tls.Config, *Problem) {
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pool, problem := readAuthorities("tls.ca_file", t.CAFile)
		if problem != nil {
			return nil, problem
		}
		config.RootCAs = pool
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, unreadable("tls.cert_file", t.CertFile+" with "+t.KeyFile, err)
		}
		// Whatever authorities the broker names: it says then why it takes this one not.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return config, nil
}

// readAuthorities returns who a file says may sign certificates.
func readAuthorities(key, file string) (*x509.CertPool, *Problem) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, unreadable(key, file, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &Problem{key, file, "there is no PEM certificate in it"}
	}
	return pool, nil
}

// unreadable is the problem of a file that a key names.
func unreadable(key, file string, err error) *Problem {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = errors.New(path.Path + ": " + path.Err.Error())
		if path.Path == file {
			err = path.Err
		}
	}
	return &Problem{key, file, "it cannot be read: " + err.Error()}
}
