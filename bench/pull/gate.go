package main

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A gate is a source in this process that counts the bytes it sends.
type gate struct {
	t    *tunnel.Tunnel
	sent atomic.Int64
	stop func()
}

func newGate(ctx context.Context, s *site) (*gate, error) {
	ctx, cancel := context.WithCancel(ctx)
	g := &gate{stop: cancel}
	var err error
	if g.t, err = open(ctx, "source", nil); err != nil {
		return nil, err
	}
	if err := g.t.SetPeers([]tunnel.Peer{peerOf("puller")}); err != nil {
		return nil, err
	}
	l, err := g.t.Listen(service)
	if err != nil {
		return nil, err
	}
	go s.serve(ctx, countedListener{l, &g.sent})
	return g, nil
}

func (g *gate) where() string { return g.t.LocalAddr().String() }
func (g *gate) close()        { g.stop() }

type countedListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return sender{c, l.sent}, nil
}

type sender struct {
	net.Conn
	sent *atomic.Int64
}

// NetConn returns the connection below.
func (c sender) NetConn() net.Conn { return c.Conn }

func (c sender) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
