package bulk_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/pbs/bulk"
)

// certificate makes one that nobody checks.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// counted counts the calls that cross it.
type counted struct {
	net.Conn
	reads, writes atomic.Int64
	broken        atomic.Bool
}

var errBroken = errors.New("the line is broken")

func (c *counted) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

func (c *counted) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, errBroken
	}
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// connected returns both ends of a TLS connection, and what lies below them.
func connected(t *testing.T) (client, server net.Conn, below [2]*counted) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	below = [2]*counted{{Conn: near}, {Conn: far}}
	c := tls.Client(bulk.Below(below[0]), &tls.Config{InsecureSkipVerify: true})
	s := tls.Server(bulk.Below(below[1]), &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	shaken := make(chan error, 1)
	go func() { shaken <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return c, s, below
}

// Megabytes arrive as they were sent, with an eighth of the calls that TLS
// makes by itself, and what is written has been sent when Write returns.
func TestBulk(t *testing.T) {
	client, server, below := connected(t)
	client, server = bulk.Over(client), bulk.Over(server)
	data := chunktest.Random(1, 8<<20)
	records := int64(len(data) / (16 << 10))
	before := below[0].writes.Load()
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("what came is not what was sent: %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if n := below[0].writes.Load() - before; n > records/7 {
		t.Errorf("%d writes for %d records", n, records)
	}
	for _, small := range []string{"an answer", "another"} {
		if _, err := server.Write([]byte(small)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, len(small))
		if _, err := io.ReadFull(client, answer); err != nil || string(answer) != small {
			t.Fatalf("%q, %v", answer, err)
		}
	}
}

// What TLS says while a write above is under way is not lost, and a line that
// breaks fails the write that finds out, and all after it.
func TestBulkOnABrokenLine(t *testing.T) {
	client, _, below := connected(t)
	client = bulk.Over(client)
	below[0].broken.Store(true)
	if _, err := client.Write(make([]byte, 40<<10)); !errors.Is(err, errBroken) {
		t.Errorf("a write that cannot be sent: %v", err)
	}
	below[0].broken.Store(false)
	if _, err := client.Write([]byte("x")); err == nil {
		t.Error("a write after bytes were lost succeeds")
	}
}

// A connection without a Conn below it stays what it is.
func TestOverOthers(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	if bulk.Over(near) != near {
		t.Error("a pipe became another connection")
	}
	if c := bulk.Below(near); bulk.Over(c) == net.Conn(c) {
		t.Error("a Conn is not made use of")
	}
}
