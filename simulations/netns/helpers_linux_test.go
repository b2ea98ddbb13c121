package netns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

const (
	ms = time.Millisecond

	// soon is how long a packet that will come may take on a busy machine;
	// never is how long a test waits for one that must not come.
	soon  = 5 * time.Second
	never = 150 * ms
)

// A peer is a UDP socket on a host.
type peer struct {
	net.PacketConn
	t *testing.T
	h *Host
}

func newPeer(t *testing.T, h *Host) *peer {
	t.Helper()
	c, err := h.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{c, t, h}
}

func (p *peer) port() uint16 { return netip.MustParseAddrPort(p.LocalAddr().String()).Port() }

// addr is where the peer is reached by those who can reach its host.
func (p *peer) addr() netip.AddrPort { return netip.AddrPortFrom(p.h.Addr, p.port()) }

func (p *peer) addr6() netip.AddrPort { return netip.AddrPortFrom(p.h.Addr6, p.port()) }

func (p *peer) send(to netip.AddrPort, text string) {
	p.t.Helper()
	if _, err := p.WriteTo([]byte(text), net.UDPAddrFromAddrPort(to)); err != nil {
		p.t.Fatalf("send from host %s to %s: %v", p.h.Name, to, err)
	}
}

// receive returns the next packet and where it came from; "" if none comes in time.
func (p *peer) receive(in time.Duration) (string, netip.AddrPort) {
	p.t.Helper()
	buf := make([]byte, 2048)
	p.SetReadDeadline(time.Now().Add(in))
	n, from, err := p.ReadFrom(buf)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", netip.AddrPort{}
	case err != nil:
		p.t.Fatalf("receive on host %s: %v", p.h.Name, err)
	}
	ap := netip.MustParseAddrPort(from.String())
	return string(buf[:n]), netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// sees sends a packet to q and returns where it came from, for q.
func (q *peer) sees(p *peer) netip.AddrPort {
	p.t.Helper()
	p.send(q.addr(), "who am I?")
	text, from := q.receive(soon)
	if text == "" {
		p.t.Fatalf("nothing sent from host %s arrives at host %s", p.h.Name, q.h.Name)
	}
	return from
}

// reaches reports whether a packet sent to an address arrives at q.
func (p *peer) reaches(q *peer, at netip.AddrPort, in time.Duration) bool {
	p.t.Helper()
	p.send(at, "knock")
	text, _ := q.receive(in)
	return text == "knock"
}

// echo serves TCP on a host: what comes in goes back.
func echo(t *testing.T, h *Host) netip.AddrPort {
	t.Helper()
	ln, err := h.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return netip.AddrPortFrom(h.Addr, netip.MustParseAddrPort(ln.Addr().String()).Port())
}

func dial(t *testing.T, h *Host, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", to.String())
	if err != nil {
		t.Fatalf("dial %s from host %s: %v", to, h.Name, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// refuses fails if a TCP connection to an address can be made.
func refuses(t *testing.T, h *Host, to netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), never)
	defer cancel()
	if c, err := h.Dial(ctx, "tcp", to.String()); err == nil {
		c.Close()
		t.Errorf("host %s reaches %s", h.Name, to)
	}
}

// there sends size bytes over an echo connection and reports whether they come
// back in time.
func there(t *testing.T, c net.Conn, size int, in time.Duration) bool {
	t.Helper()
	data := bytes.Repeat([]byte("holdfast"), size/8+1)[:size]
	c.SetDeadline(time.Now().Add(in))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, size)
	_, err := io.ReadFull(c, got)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		<-sent
		return false
	}
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
	return true
}
