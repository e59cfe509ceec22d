package brokertest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SecureEnv names the environment variable that holds the folder which `deploy/kafka/kafka up --secure` fills, of
// the Kafka that Env names: where its listeners for SASL and TLS are, and what a client needs to get in.
const SecureEnv = "PRTWATCH_TEST_SECURE"

// ACLsEnv names the environment variable that, where it is not empty, has Each and Start guard the real broker too,
// where SecureEnv is set.
const ACLsEnv = "PRTWATCH_TEST_ACLS"

// Secure is what stands in that folder.
type Secure struct {
	SASL, TLS     string // host:port of the listeners
	User          string // of PLAIN, and in the name of the client's certificate
	Password      string // of that user
	CAFile        string // who signed the broker's certificate
	CertFile, Key string // of the client, signed by the same
}

// RealSecure returns what SecureEnv says, false where it is not set.
func RealSecure(tb testing.TB) (Secure, bool) {
	tb.Helper()
	dir := os.Getenv(SecureEnv)
	if dir == "" || realAddrs() == nil {
		return Secure{}, false
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			tb.Fatalf("%s: %v", SecureEnv, err)
		}
		return strings.TrimSpace(string(text))
	}
	return Secure{
		SASL: read("sasl"), TLS: read("tls"), User: "prtwatch", Password: read("password"), CAFile: filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "prtwatch.crt"), Key: filepath.Join(dir, "prtwatch.key"),
	}, true
}

// EachGuarded is Each with brokers that ask everybody but us who he is (see Broker.NewAccount), and let him do what he is
// granted. The real one is there where SecureEnv is set.
func EachGuarded(t *testing.T, test func(t *testing.T, b *Broker)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) { test(t, FakeGuarded(t)) })
	if secure, ok := RealSecure(t); ok {
		t.Run("kafka", func(t *testing.T) {
			b := connect(t, realAddrs(), nil)
			b.door = secure.SASL
			test(t, b)
		})
	}
}

// connectReal connects to the real broker, guarded where ACLsEnv wants it.
func connectReal(tb testing.TB, addrs []string) *Broker {
	tb.Helper()
	b := connect(tb, addrs, nil)
	if os.Getenv(ACLsEnv) != "" {
		secure, ok := RealSecure(tb)
		if !ok {
			tb.Fatalf("%s wants the listeners of %s, which is not set", ACLsEnv, SecureEnv)
		}
		b.door = secure.SASL
	}
	return b
}

// FakeGuarded is Fake as EachGuarded has it.
func FakeGuarded(tb testing.TB) *Broker {
	tb.Helper()
	const admin = "admin"
	b := fake(tb, []kgo.Opt{kgo.SASL(scram.Auth{User: admin, Pass: admin}.AsSha256Mechanism())},
		kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("SCRAM-SHA-256", admin, admin))
	b.door = b.addrs[0]
	return b
}

// Account is somebody who may do with a broker what he is granted. He is known to it by
// SCRAM-SHA-256 and SCRAM-SHA-512.
type Account struct {
	Name, Password string
	// Addr is host:port of the listener that he comes by.
	Addr string
	b    *Broker
}

// ACL is an operation that is allowed on a resource, or with Prefixed on all whose name begins so.
type ACL struct {
	Resource  kmsg.ACLResourceType
	Name      string
	Prefixed  bool
	Operation kmsg.ACLOperation
}

// Door is host:port where users come in: of any broker where it is not guarded.
func (b *Broker) Door() string { return cmp.Or(b.door, b.addrs[0]) }

// Unguarded is the same broker by its plain listener, where everybody may do everything.
func (b *Broker) Unguarded() *Broker {
	open := *b
	open.door = ""
	return &open
}

// Guarded reports whether users of the broker are asked who they are: see EachGuarded.
func (b *Broker) Guarded() bool { return b.door != "" }

// NewAccount makes a user who may do nothing. The broker is guarded.
func (b *Broker) NewAccount(name string) *Account {
	b.tb.Helper()
	u := &Account{Name: b.Name(name), Password: fmt.Sprintf("%016x", rand.Uint64()), Addr: b.door, b: b}
	ctx, cancel := b.context()
	defer cancel()
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // a broker takes one at a time
		altered, err := b.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: u.Name, Mechanism: mechanism, Iterations: 4096, Password: u.Password}})
		if err == nil {
			err = altered[u.Name].Err
		}
		if err != nil {
			b.tb.Fatalf("making user %s: %v", u.Name, err)
		}
	}
	b.tb.Cleanup(u.remove)
	b.eventually("the broker to know user "+u.Name, func(ctx context.Context) bool {
		described, err := b.admin.DescribeUserSCRAMs(ctx, u.Name)
		return err == nil && described[u.Name].Err == nil && len(described[u.Name].CredInfos) == 2
	})
	return u
}

// Grant allows the user more, and returns when the broker knows.
func (u *Account) Grant(acls ...ACL) {
	u.b.tb.Helper()
	request := kmsg.NewPtrCreateACLsRequest()
	for _, acl := range acls {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = acl.Resource, acl.Name, kmsg.ACLResourcePatternTypeLiteral
		if acl.Prefixed {
			c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
		}
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:"+u.Name, "*", acl.Operation, kmsg.ACLPermissionTypeAllow
		request.Creations = append(request.Creations, c)
	}
	ctx, cancel := u.b.context()
	defer cancel()
	before := u.granted(ctx)
	response, err := request.RequestWith(ctx, u.b.client)
	if err != nil {
		u.b.tb.Fatalf("granting %s: %v", u.Name, err)
	}
	for i, r := range response.Results {
		if r.ErrorCode != 0 {
			u.b.tb.Fatalf("granting %s %v: error %d", u.Name, acls[i], r.ErrorCode)
		}
	}
	u.b.eventually("what was granted", func(ctx context.Context) bool { return u.granted(ctx) >= before+len(acls) })
}

// granted is how much the user is allowed, -1 where the broker does not answer.
func (u *Account) granted(ctx context.Context) int {
	described, err := u.b.admin.DescribeACLs(ctx, u.acls())
	if err != nil {
		return -1
	}
	n := 0
	for _, d := range described {
		n += len(d.Described)
	}
	return n
}

// acls are all of the user's.
func (u *Account) acls() *kadm.ACLBuilder {
	return kadm.NewACLs().AnyResource().Operations().Allow("User:" + u.Name).AllowHosts().Deny().DenyHosts().ResourcePatternType(kadm.ACLPatternAny)
}

func (u *Account) remove() {
	ctx, cancel := u.b.context()
	defer cancel()
	_, _ = u.b.admin.DeleteACLs(ctx, u.acls())
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		_, _ = u.b.admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: u.Name, Mechanism: mechanism}}, nil)
	}
}

// Client returns a client of the user's that lives as long as the test.
func (u *Account) Client(opts ...kgo.Opt) *kgo.Client {
	u.b.tb.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(u.Addr), kgo.SASL(scram.Auth{User: u.Name, Pass: u.Password}.AsSha256Mechanism()),
	}, opts...)...)
	if err != nil {
		u.b.tb.Fatalf("making a client of user %s: %v", u.Name, err)
	}
	u.b.tb.Cleanup(cl.Close)
	return cl
}
