package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// patience bounds waits of tests; a busy machine may need much of it.
const patience = 30 * time.Second

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func pathTo(from, to *tunneltest.Node) tunnel.Path { return statsOf(from, to).Path }

func statsOf(from, to *tunneltest.Node) tunnel.PeerStats {
	for _, s := range from.Stats() {
		if s.ID == to.ID {
			return s
		}
	}
	return tunnel.PeerStats{}
}

// connect returns the two ends of a connection from a to b.
func connect(t *testing.T, a, b *tunneltest.Node, service uint16) (client, server net.Conn) {
	t.Helper()
	l, err := b.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err = a.Dial(ctx, b.ID, service)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case server = <-accepted:
	case <-ctx.Done():
		t.Fatal("nobody accepted")
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// pass sends size random bytes and checks that they arrive.
func pass(t *testing.T, from, to net.Conn, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	to.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, size)
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("what arrived is not what was sent")
	}
}

func TestPairCarriesTCPAndKnowsWhoCalls(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	pass(t, client, server, 3<<20)
	pass(t, server, client, 3<<20)
	if who, ok := b.NodeOf(server.RemoteAddr()); !ok || who != a.ID {
		t.Errorf("the caller is %q, want %q", who, a.ID)
	}
	if who, ok := a.NodeOf(client.RemoteAddr()); !ok || who != b.ID {
		t.Errorf("the called is %q, want %q", who, b.ID)
	}
	until(t, "direct path", func() bool { return pathTo(a, b) == tunnel.PathDirect })
}
