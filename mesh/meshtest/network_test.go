package meshtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

const service = network.ServiceHealth

func packets(t *testing.T, n *Network, node string) network.PacketConn {
	t.Helper()
	c, err := n.Node(node).ListenPacket(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reach tells how long a packet takes, and who sent it.
func reach(t *testing.T, from, to network.PacketConn, node string) (time.Duration, string, error) {
	t.Helper()
	began := time.Now()
	if err := from.WriteTo([]byte("hello"), node); err != nil {
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(time.Second))
	_, who, err := to.ReadFrom(make([]byte, 10))
	return time.Since(began), who, err
}

func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.Slow(100*time.Millisecond, 0, 0)
		a, b := packets(t, n, "a"), packets(t, n, "b")
		if d, who, err := reach(t, a, b, "b"); d != 50*time.Millisecond || who != "a" || err != nil {
			t.Errorf("%v from %q, %v", d, who, err)
		}
		n.Cut("a", "b")
		if _, _, err := reach(t, a, b, "b"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("through a cut: %v", err)
		}
		if _, who, err := reach(t, b, a, "a"); who != "b" || err != nil {
			t.Errorf("a cut has one direction: %q, %v", who, err)
		}
		n.Heal()
		n.Slow(100*time.Millisecond, 0, 1)
		if _, _, err := reach(t, a, b, "b"); err == nil {
			t.Error("all is lost and it arrives")
		}
		if err := a.WriteTo(make([]byte, network.MaxPacket+1), "b"); err == nil {
			t.Error("a packet that no tunnel carries is sent")
		}
	})
}

func TestNodeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		l, err := n.Node("b").Listen(service)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() { io.Copy(c, c); c.Close() }()
			}
		}()
		dial := func() (net.Conn, error) {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			return n.Node("a").Dial(ctx, "b", service)
		}
		c, err := dial()
		if err != nil || network.RemoteNode(c) != "b" {
			t.Fatal(err)
		}
		b := packets(t, n, "b")
		n.Down("b")
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a dead node speaks")
		}
		if _, _, err := b.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead node hears: %v", err)
		}
		if _, err := dial(); err == nil {
			t.Error("a dead node is reached")
		}
		n.Up("b")
		if l, err := n.Node("b").Listen(service); err != nil {
			t.Error(err)
		} else {
			l.Close()
		}
	})
}
