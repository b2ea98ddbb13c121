package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// service is that of the peer protocol in the mesh, raw one for plain streams.
const (
	service = 8401
	raw     = 8402
)

func keyOf(name string) tunnel.PrivateKey { return sha256.Sum256([]byte("bench pull " + name)) }

func addressOf(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	b := [16]byte{0xfd, 'p', 'u', 'l', 'l'}
	copy(b[8:], sum[:])
	return netip.AddrFrom16(b)
}

func peerOf(name string, endpoints ...netip.AddrPort) tunnel.Peer {
	return tunnel.Peer{ID: tunnel.NodeID(name), Keys: []tunnel.PublicKey{keyOf(name).Public()}, Address: addressOf(name), Endpoints: endpoints}
}

// open runs a tunnel until ctx ends.
func open(ctx context.Context, name string, change func(*tunnel.Config)) (*tunnel.Tunnel, error) {
	cfg := tunnel.Config{
		Self: tunnel.NodeID(name), PrivateKey: keyOf(name), Address: addressOf(name),
		Listen: netip.MustParseAddrPort("127.0.0.1:0"),
	}
	if change != nil {
		change(&cfg)
	}
	t, err := tunnel.New(cfg)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	go func() { failed <- t.Run(ctx) }()
	select {
	case <-t.Running():
		return t, nil
	case err := <-failed:
		return nil, err
	}
}

// A lab is a puller and sources, each with a line of its own to it.
type lab struct {
	ctx     context.Context
	stop    func()
	net     *tunneltest.Network
	here    *tunnel.Tunnel
	sites   []*site
	tunnels []*tunnel.Tunnel

	bytes atomic.Int64 // that the puller's connections carried, both ways
}

func newLab(ctx context.Context, l tunneltest.Link, sites ...*site) (*lab, error) {
	ctx, cancel := context.WithCancel(ctx)
	x := &lab{ctx: ctx, net: tunneltest.New(1), sites: sites}
	x.stop = func() { cancel(); x.net.Close() }
	x.net.Usual(l)
	on := func(h *tunneltest.Host) func(*tunnel.Config) {
		return func(c *tunnel.Config) {
			c.Listen = netip.MustParseAddrPort("[::]:51820")
			c.ListenUDP, c.Addresses = h.Listen, h.Addresses
		}
	}
	var err error
	if x.here, err = open(ctx, "puller", on(x.net.Host("puller", "203.0.113.1"))); err != nil {
		return nil, err
	}
	var table []tunnel.Peer
	for i, s := range sites {
		at := fmt.Sprintf("203.0.113.%d", i+2)
		t, err := open(ctx, s.name, on(x.net.Host(s.name, at)))
		if err != nil {
			return nil, err
		}
		if err := t.SetPeers([]tunnel.Peer{peerOf("puller", netip.MustParseAddrPort("203.0.113.1:51820"))}); err != nil {
			return nil, err
		}
		l, err := t.Listen(service)
		if err != nil {
			return nil, err
		}
		go s.serve(ctx, l)
		table = append(table, peerOf(s.name, netip.MustParseAddrPort(at+":51820")))
		x.tunnels = append(x.tunnels, t)
	}
	return x, x.here.SetPeers(table)
}

// sources returns the first n sites as sources.
func (x *lab) sources(n int, in *rate.Bucket) (list []replication.Source, err error) {
	for _, s := range x.sites[:n] {
		c, err := wire.NewClient(wire.ClientConfig{Peer: s.name, Store: "main", In: in, Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := x.here.Dial(ctx, tunnel.NodeID(s.name), service)
			if err != nil {
				return nil, err
			}
			return &counted{c, &x.bytes}, nil
		}})
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

type counted struct {
	net.Conn
	bytes *atomic.Int64
}

// NetConn returns the connection below.
func (c *counted) NetConn() net.Conn { return c.Conn }

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

// pull pulls everything of the first n sites into a site.
func (x *lab) pull(to *site, n, workers int, in *rate.Bucket) (replication.Report, error) {
	list, err := x.sources(n, in)
	if err != nil {
		return replication.Report{}, err
	}
	return pull(x.ctx, to, list, workers)
}

func pull(ctx context.Context, to *site, from []replication.Source, workers int) (replication.Report, error) {
	p, err := replication.New(replication.Config{Local: to.d, Sources: from})
	if err != nil {
		return replication.Report{}, err
	}
	return p.Run(ctx, replication.Job{ID: "bench", Workers: workers, Options: plan.Options{Owner: "root@pam"}})
}

// stream returns how many bytes one TCP stream carries from the first site in a
// while, after it had time to begin.
func (x *lab) stream(d time.Duration) (perSecond float64, err error) {
	l, err := x.tunnels[0].Listen(raw)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		for buf := make([]byte, 256<<10); err == nil; {
			_, err = c.Write(buf)
		}
	}()
	c, err := x.here.Dial(x.ctx, tunnel.NodeID(x.sites[0].name), raw)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return 0, err
	}
	time.AfterFunc(3*time.Second+d, func() { c.Close() })
	var bytes, before int64
	buf, start := make([]byte, 256<<10), time.Now()
	for {
		n, err := c.Read(buf)
		bytes += int64(n)
		if time.Since(start) < 3*time.Second {
			before = bytes
		}
		if err != nil {
			if bytes > 0 {
				err = nil
			}
			return float64(bytes-before) / d.Seconds(), ignoreEnd(err)
		}
	}
}

func ignoreEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
