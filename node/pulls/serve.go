package pulls

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/mesh/network"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// retryListen is how long the tunnel may take to come back.
const retryListen = time.Second

// serve answers other nodes until ctx is done. Without a link it waits.
func (p *Pulls) serve(ctx context.Context) error {
	for ctx.Err() == nil && p.cfg.Network != nil {
		l, err := p.cfg.Network.Listen(network.ServiceBulk)
		if err == nil {
			err = p.answer(ctx, limitedListener{l, p})
		}
		if ctx.Err() != nil {
			return nil
		}
		p.cfg.Log.Debug("nobody can pull from this node just now", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryListen):
		}
	}
	<-ctx.Done()
	return nil
}

func (p *Pulls) serveLocal(ctx context.Context) error {
	err := p.answer(ctx, p.local)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// answer serves a listener until ctx is done or the listener fails.
func (p *Pulls) answer(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler: p.server, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, nodeKey{}, remote(c))
		},
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	err = errors.Join(err, s.Close())
	if ctx.Err() != nil {
		<-served
		p.server.Wait()
	}
	return err
}

type nodeKey struct{}

// who tells which node asks, by its connection.
func who(r *http.Request) (node string, ok bool) {
	node, _ = r.Context().Value(nodeKey{}).(string)
	return node, node != ""
}

// remote is who is at the other end of a connection.
func remote(c net.Conn) string {
	if named, ok := c.(interface{ RemoteNode() string }); ok {
		return named.RemoteNode()
	}
	return ""
}

// may tells whether a node may read a namespace here. It is asked for every
// request: who was removed from the cluster is nobody at once.
func (p *Pulls) may(node, store string, ns naming.Namespace) bool {
	if node == p.cfg.Self {
		return true // whoever made the job was asked
	}
	m, is := p.cfg.Member(node)
	if !is {
		return false
	}
	if read, has := p.cfg.Account(m.Name, store, ns); has {
		return read
	}
	return m.Role == "full" || m.Role == "replica"
}

// open returns a datastore to be read by others.
func (p *Pulls) open(name string) (wire.Store, wire.Chunks, error) {
	d, done, err := p.cfg.Stores.Use(name, false)
	if err != nil {
		return nil, nil, err
	}
	done() // as long as it is read, its files are open
	return d, held{d.Bulk(), d.Chunks()}, nil
}

// held are the chunks of a datastore, as they are read for others: what is read
// so does not push out of a cache what people use here.
type held struct {
	chunks.BatchSource
	where interface {
		LocateMany(ds []chunks.Digest, fn func(i int, ref pack.Ref, held bool))
		Generation() uint64
	}
}

func (h held) LocateMany(ds []chunks.Digest, fn func(i int, ref pack.Ref, held bool)) {
	h.where.LocateMany(ds, fn)
}

func (h held) Generation() uint64 { return h.where.Generation() }

// limitedListener takes connections of nodes, which keep to the rules for
// traffic.
type limitedListener struct {
	net.Listener
	p *Pulls
}

func (l limitedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.p.limited(c, remote(c)), nil
}

// A link is a connection with a node, within the rules for traffic.
type link struct {
	net.Conn
	node string
	from net.Addr
}

func (l *link) RemoteNode() string   { return l.node }
func (l *link) RemoteAddr() net.Addr { return l.from }
func (l *link) NetConn() net.Conn    { return l.Conn }

// limited has a connection keep to the rules for traffic: they go by the address
// of the node, and by its account, NAME@node.
func (p *Pulls) limited(c net.Conn, node string) net.Conn {
	if p.cfg.Traffic == nil {
		return c
	}
	inner := &link{c, node, c.RemoteAddr()}
	if p.cfg.Where != nil {
		if at := p.cfg.Where(node); at.IsValid() {
			inner.from = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0))
		}
	}
	wrapped := p.cfg.Traffic.Wrap(inner)
	wrapped.SetUser(p.nameOf(node) + "@node")
	return &link{wrapped, node, inner.from}
}

// loop is how this node pulls from itself: a listener in memory.
type loop struct {
	self   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newLoop(self string) *loop {
	return &loop{self: self, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *loop) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return &link{c, l.self, c.RemoteAddr()}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *loop) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *loop) Addr() net.Addr { return &net.UnixAddr{Name: "loop", Net: "unix"} }

func (l *loop) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
