package brokertest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// accept serves each connection on a goroutine of its own until the gate is closed.
func (n *Namespace) accept(serving *sync.WaitGroup) {
	for {
		conn, err := n.gate.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		n.conns[conn] = false
		n.mu.Unlock()
		serving.Go(func() {
			if err := n.serve(conn); errors.Is(err, errReset) {
				reset(conn)
			}
			_ = conn.Close()
			n.mu.Lock()
			delete(n.conns, conn)
			n.mu.Unlock()
		})
	}
}

// errReset is why a connection is reset, where others are closed.
var errReset = errors.New("a request of an unknown version")

// reset closes a connection as one that was never there.
func reset(conn net.Conn) {
	tcp := conn.(*tls.Conn).NetConn().(*net.TCPConn)
	_ = tcp.SetLinger(0)
	_ = tcp.Close()
}

// hangUp closes all connections.
func (n *Namespace) hangUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		_ = conn.Close()
	}
}

// serve answers a connection's requests one after the other, and returns why it is closed.
func (n *Namespace) serve(front net.Conn) error {
	back, err := net.Dial("tcp", n.Inside.Addrs()[0])
	if err != nil {
		return err
	}
	defer back.Close()
	requests := bufio.NewReader(front)
	for {
		_ = front.SetReadDeadline(time.Now().Add(time.Duration(n.idle.Load())))
		if _, err := requests.Peek(1); err != nil {
			return err
		}
		_ = front.SetReadDeadline(time.Time{})
		frame, err := readFrame(requests)
		if err != nil {
			return err
		}
		if len(frame) > maxRequest {
			n.refuse("a request too large")
			return fmt.Errorf("a request of %d bytes", len(frame))
		}
		response, err := n.exchange(front, back, frame)
		if err != nil {
			return err
		}
		if err := writeFrame(front, response); err != nil {
			return err
		}
	}
}

// exchange returns the answer to a request: the namespace's own, or what the broker behind
// answers, as the namespace would have said it.
func (n *Namespace) exchange(front, back net.Conn, frame []byte) ([]byte, error) {
	request, correlation, err := parseRequest(frame)
	if err != nil {
		return nil, err
	}
	if own, err := n.answer(front, request); err != nil || own != nil {
		return formatResponse(own, correlation), err
	}
	if err := writeFrame(back, frame); err != nil {
		return nil, err
	}
	answer, err := readFrame(back)
	if err != nil {
		return nil, err
	}
	response := request.ResponseKind()
	switch response.(type) {
	case *kmsg.FetchResponse, *kmsg.ListOffsetsResponse, *kmsg.MetadataResponse, *kmsg.OffsetFetchResponse, *kmsg.FindCoordinatorResponse:
	default:
		return answer, nil
	}
	body := kbin.Reader{Src: answer[4:]}
	if response.IsFlexible() {
		kmsg.SkipTags(&body)
	}
	if err := response.ReadFrom(body.Src); err != nil {
		return nil, err
	}
	n.disguise(response)
	return formatResponse(response, correlation), nil
}

// disguise makes an answer one of the namespace: its address, no leader epochs and, while it
// throttles, no records.
func (n *Namespace) disguise(response kmsg.Response) {
	host, port := hostOf(n.Addr())
	switch r := response.(type) {
	case *kmsg.MetadataResponse:
		for i := range r.Brokers {
			r.Brokers[i].Host, r.Brokers[i].Port = host, port
		}
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].LeaderEpoch = -1
			}
		}
	case *kmsg.FindCoordinatorResponse:
		r.Host, r.Port = host, port
		for i := range r.Coordinators {
			r.Coordinators[i].Host, r.Coordinators[i].Port = host, port
		}
	case *kmsg.ListOffsetsResponse:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].LeaderEpoch = -1
			}
		}
	case *kmsg.OffsetFetchResponse:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].LeaderEpoch = -1
			}
		}
		for g := range r.Groups {
			for i := range r.Groups[g].Topics {
				for j := range r.Groups[g].Topics[i].Partitions {
					r.Groups[g].Topics[i].Partitions[j].LeaderEpoch = -1
				}
			}
		}
	case *kmsg.FetchResponse:
		n.throttle(r)
	}
}

// throttle takes the records out of a fetch while the namespace throttles, and out of others the
// leader's epochs, which no checksum covers.
func (n *Namespace) throttle(r *kmsg.FetchResponse) {
	var full []*kmsg.FetchResponseTopicPartition
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			if p := &r.Topics[i].Partitions[j]; len(p.RecordBatches) > 0 {
				full = append(full, p)
			}
		}
	}
	if len(full) == 0 {
		return
	}
	if n.ration.Add(-1) < 0 {
		for _, p := range full {
			p.RecordBatches = nil
		}
		r.ThrottleMillis = 100
		n.starved.Add(1)
		return
	}
	for _, p := range full {
		for batch := p.RecordBatches; len(batch) > batchAttributes; {
			binary.BigEndian.PutUint32(batch[batchEpoch:], 1<<32-1)
			size := 12 + int(binary.BigEndian.Uint32(batch[8:]))
			batch = batch[min(size, len(batch)):]
		}
	}
}

func parseRequest(frame []byte) (request kmsg.Request, correlation int32, err error) {
	header := kbin.Reader{Src: frame}
	key, version := header.Int16(), header.Int16()
	correlation = header.Int32()
	header.NullableString() // the client's id
	if request = kmsg.RequestForKey(key); request == nil {
		return nil, 0, fmt.Errorf("a request of key %d", key)
	}
	request.SetVersion(version)
	if request.IsFlexible() {
		kmsg.SkipTags(&header)
	}
	return request, correlation, request.ReadFrom(header.Src)
}

// formatResponse is nil for no response.
func formatResponse(response kmsg.Response, correlation int32) []byte {
	if response == nil {
		return nil
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(correlation))
	if response.IsFlexible() && response.Key() != int16(kmsg.ApiVersions) {
		out = append(out, 0) // no tags
	}
	return response.AppendTo(out)
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, frame []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

// certify makes a certificate for 127.0.0.1, which signs itself, and writes it to a file.
func certify(tb testing.TB) (config *tls.Config, file string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.servicebus.windows.net"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	file = filepath.Join(tb.TempDir(), "event-hubs-ca.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: key}}, RootCAs: roots, MinVersion: tls.VersionTLS12}, file
}
