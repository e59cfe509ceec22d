package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// pingEvery is how long Ping waits between two attempts.
const pingEvery = 250 * time.Millisecond

// Await does what Ping says with a client of its own that logs nothing: what is wrong is
// said once, by the error. An error of the section's files is that of Options.
func Await(ctx context.Context, c Cluster, section string, patience time.Duration) error {
	opts, err := c.Options(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("%s: %w", section, err)
	}
	defer client.Close()
	return Ping(ctx, client, section, patience)
}

// Ping waits until a broker answers: for patience at the most, and not at all after an
// answer that time does not change (a password refused, a certificate not trusted). The
// section (kafka, input) is where the cluster is configured; the error is one line that
// names its key, the brokers, the last reason and what to look at.
func Ping(ctx context.Context, cl *kgo.Client, section string, patience time.Duration) error {
	seeds, _ := cl.OptValue(kgo.SeedBrokers).([]string)
	mechanisms, _ := cl.OptValue(kgo.SASL).([]sasl.Mechanism)
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for {
		err := pingOnce(limited, cl)
		switch {
		case err == nil:
			return nil
		case limited.Err() == nil && (last == nil || !timedOut(err)):
			last = err
		case last == nil: // the end of the waiting itself explains nothing, nor a dial that it cut off
			last = errSilent
		}
		key, remedy, permanent := diagnose(last, len(mechanisms) > 0)
		if !permanent && ctx.Err() == nil && wait(limited, pingEvery) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if ours, ok := errors.AsType[*Problem](last); ok { // a file, or who gives us tokens
			return fmt.Errorf("%s.%w; without it nobody gets in to %s", section, ours, strings.Join(seeds, ","))
		}
		after := fmt.Sprintf("no answer within %s", patience)
		if permanent {
			after = "refused"
		}
		return fmt.Errorf("%s.%s: %s: %s: %s: %w", section, key, strings.Join(seeds, ","), after, remedy, oneLine(last))
	}
}

// errSilent is the reason where not even one attempt had come to an end.
var errSilent = errors.New("neither answered nor refused")

func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// pingOnce returns when the context ends, which the client's Ping does not while it
// connects: that goes on for the ten seconds of its own timeout.
func pingOnce(ctx context.Context, cl *kgo.Client) error {
	answer := make(chan error, 1)
	go func() { answer <- cl.Ping(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait reports whether the context is still alive after d.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// diagnose says of an error which key to look at, what to do about it, and whether trying
// again is in vain. loggingIn says that the client does SASL.
func diagnose(err error, loggingIn bool) (key, remedy string, permanent bool) {
	var (
		dns       *net.DNSError
		plaintext tls.RecordHeaderError
		untrusted *tls.CertificateVerificationError
		issuer    x509.UnknownAuthorityError
		network   *net.OpError
		early     *kgo.ErrFirstReadEOF
	)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "sasl", "check user and password", true
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return "sasl.mechanism", "the broker does not have this mechanism", true
	case errors.Is(err, kerr.IllegalSaslState):
		return "sasl.mechanism", "this listener does no SASL; leave the mechanism empty, or use the listener that does", true
	case strings.Contains(err.Error(), "plaintext connection speaking to a tls endpoint"): // kgo's guess at a garbled size
		return "tls.enabled", "this listener speaks TLS; set it to true, or use the listener that does not", true
	case errors.As(err, &plaintext):
		return "tls.enabled", "this listener does not speak TLS; set it to false, or use the listener that does", true
	case errors.As(err, &issuer):
		return "tls.ca_file", "the brokers' certificate is signed by none that it holds", true
	case errors.As(err, &untrusted):
		return "tls", "the brokers' certificate is not accepted; check ca_file and server_name", true
	case errors.As(err, &network) && network.Op == "remote error": // a TLS alert has no type of its own
		return "tls.cert_file", "the broker does not accept our certificate, or wants one", true
	case errors.As(err, &early) && strings.Contains(early.Error(), "SASL"):
		return "sasl.mechanism", "the broker hung up, as one that wants SASL does; or it is starting", false
	case errors.As(err, &early):
		return "tls.enabled", "the broker hung up, as one that wants TLS does (or does not have it); or it is starting", false
	case errors.Is(err, io.EOF) && loggingIn:
		return "sasl", "the broker hung up at the login; check mechanism, user and password", false
	case errors.As(err, &dns) && dns.IsNotFound:
		return "brokers", "check the host's name", false
	}
	return "brokers", "check that a broker listens there, that its port is right, and whether that port speaks TLS", false
}

// oneLine keeps an error's chain and takes line breaks out of its text. Of a broker that
// hung up it leaves the EOF: the client's guesses at why are in the remedy.
func oneLine(err error) error {
	var early *kgo.ErrFirstReadEOF
	if errors.As(err, &early) {
		return early.Unwrap()
	}
	if !strings.Contains(err.Error(), "\n") {
		return err
	}
	return &flat{err}
}

type flat struct{ error }

func (f *flat) Error() string { return strings.Join(strings.Fields(f.error.Error()), " ") }
func (f *flat) Unwrap() error { return f.error }

// Unreachable reports whether an error says that a broker could not be asked, or could not answer
// now, rather than that it answered.
func Unreachable(err error) bool {
	var said *kerr.Error
	if errors.As(err, &said) {
		return said.Retriable
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
