package main

import (
	"context"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A gate is a source in this process.
type gate struct {
	t    *tunnel.Tunnel
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
	go s.serve(ctx, l)
	return g, nil
}

func (g *gate) where() string { return g.t.LocalAddr().String() }
func (g *gate) close()        { g.stop() }
