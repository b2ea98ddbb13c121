package pulls

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// guards keep the lines of one run usable for others, each the one to a source.
type guards struct {
	delay time.Duration // more than the usual round trip that is borne; 0: any
	stop  context.CancelFunc
	ctx   context.Context
	runs  sync.WaitGroup
}

func newGuards(ctx context.Context, delay time.Duration) *guards {
	g := &guards{delay: delay}
	g.ctx, g.stop = context.WithCancel(ctx)
	return g
}

// end stops them and waits for their end.
func (g *guards) end() {
	g.stop()
	g.runs.Wait()
}

// delayOf is the delay that a job bears, whose text was checked.
func delayOf(j settings.SyncJob) time.Duration {
	d, _ := settings.ParseDelay(j.MaxDelay)
	return d
}

// client is that of a datastore of a member, within a guard if the line to it is
// to be kept usable.
func (g *guards) client(p *Pulls, m Member, store string, in *rate.Bucket) (*wire.Client, error) {
	if g.delay <= 0 || m.ID == p.cfg.Self {
		return p.client(m, store, in)
	}
	var c *wire.Client
	guard, err := rate.NewGuard(rate.GuardConfig{Delay: g.delay, Ping: func(ctx context.Context) (time.Duration, error) { return c.Ping(ctx) }})
	if err != nil {
		return nil, err
	}
	c, err = wire.NewClient(wire.ClientConfig{
		Peer: m.Name, Store: store, In: rate.New(in, guard.Limit),
		Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := p.dial(ctx, m.ID)
			if err != nil {
				return nil, err
			}
			return counted{conn, guard.Count}, nil
		},
	})
	if err == nil {
		g.runs.Go(func() { _ = guard.Run(g.ctx) }) // it ends with its context, and in no other way
	}
	return c, err
}

// counted is a connection that tells how much was read.
type counted struct {
	net.Conn
	count func(n int)
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.count(n)
	return n, err
}
