package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
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
	if _, err := t.config(); err != nil && (t.CertFile == "") == (t.KeyFile == "") {
		report("tls", "files", err.Error())
	}
}

// config reads the files.
func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading tls.ca_file %s: there is no PEM certificate in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("reading tls.cert_file and tls.key_file: %w", err)
		}
		// Read again for every connection: certificates are renewed under a running process.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &cert, err
		}
	}
	return config, nil
}
