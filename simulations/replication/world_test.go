package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A site is a datastore in memory, with a service that others reach by pipes.
type site struct {
	t    *testing.T
	name string
	mem  *disktest.Mem
	d    *catalog.Datastore

	mu    sync.Mutex
	conns []net.Conn
	down  bool                    // nobody reaches it
	wrap  func(net.Conn) net.Conn // of what others read from it
	in    chan net.Conn
	done  chan struct{}
	once  sync.Once
	srv   *http.Server
	wire  *wire.Server
	ended chan struct{}

	clients []*wire.Client
}

func newSite(t *testing.T, name string) *site {
	s := &site{t: t, name: name, mem: disktest.NewMem(), in: make(chan net.Conn), done: make(chan struct{}), ended: make(chan struct{})}
	s.mem.Disable(disk.Abilities{Direct: true})
	if _, err := identity.Init(s.mem, "/store", 0); err != nil {
		t.Fatal(err)
	}
	s.open()
	var err error
	s.wire, err = wire.NewServer(wire.ServerConfig{
		Names: func() []string { return []string{"main"} },
		Store: func(string) (wire.Store, wire.Chunks, error) { return s.d, s.d.Chunks(), nil },
		Who:   func(*http.Request) (string, bool) { return "peer", true },
		May:   func(string, string, naming.Namespace) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.srv = &http.Server{Handler: s.wire}
	go func() { defer close(s.ended); _ = s.srv.Serve(s) }()
	return s
}

func (s *site) open() {
	d, err := catalog.Open(context.Background(), catalog.Config{Dir: "/store", FS: s.mem})
	if err != nil {
		s.t.Fatalf("open %s: %v", s.name, err)
	}
	s.d = d
}

// kill ends the process of the site without any warning.
func (s *site) kill() {
	s.cut()
	s.mem = s.mem.CrashLosing()
	s.open()
}

func (s *site) close() {
	s.once.Do(func() { close(s.done) })
	s.srv.Close()
	s.cut()
	<-s.ended
	s.wire.Wait()
	for _, c := range s.clients {
		c.Close()
	}
	s.d.Close()
}

// Accept, Close and Addr make the site the listener of its service.
func (s *site) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *site) Close() error   { s.once.Do(func() { close(s.done) }); return nil }
func (s *site) Addr() net.Addr { return &net.UnixAddr{Name: s.name} }

func (s *site) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return nil, errors.New("unreachable")
	}
	near, far := net.Pipe()
	select {
	case s.in <- far:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.wrap != nil {
		near = s.wrap(near)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, near, far)
	return near, nil
}

// cut breaks all connections to the site.
func (s *site) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *site) reachable(yes bool) {
	s.mu.Lock()
	s.down = !yes
	s.mu.Unlock()
	if !yes {
		s.cut()
	}
}

func (s *site) source(in *rate.Bucket) *wire.Client {
	c, err := wire.NewClient(wire.ClientConfig{Peer: s.name, Store: "main", Dial: s.dial, In: in})
	if err != nil {
		s.t.Fatal(err)
	}
	s.clients = append(s.clients, c)
	return c
}

// slow is a connection on which each read takes a while, and liar one that
// changes a bit of what is long enough to be chunks.
type (
	slow struct {
		net.Conn
		each time.Duration
	}
	liar struct{ net.Conn }
)

func (c *slow) Read(p []byte) (int, error) { time.Sleep(c.each); return c.Conn.Read(p) }

func (c *liar) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 1500 {
		p[n-1] ^= 1
	}
	return n, err
}

var made sync.Map // chunks by their seeds

func chunk(seed int) chunktest.Chunk {
	if c, ok := made.Load(seed); ok {
		return c.(chunktest.Chunk)
	}
	c := chunktest.Blob(uint64(seed), 2000+seed%7*500)
	made.Store(seed, c)
	return c
}

func (s *site) backUp(ns naming.Namespace, snap naming.Snapshot, seeds []int) {
	ctx := context.Background()
	w, err := s.d.Begin(ctx, ns, snap, "root@pam")
	if err != nil {
		s.t.Fatal(err)
	}
	var b chunks.DynamicBuilder
	for _, seed := range seeds {
		c := chunk(seed)
		if _, err := w.Session().Put(ctx, c.Digest, c.Blob); err != nil {
			s.t.Fatal(err)
		}
		if err := b.Append(b.End()+int64(len(c.Blob)-chunks.PlainHeaderSize), c.Digest); err != nil {
			s.t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		s.t.Fatal(err)
	}
	m := manifest.New(snap)
	if err := errors.Join(w.PutIndex("root.pxar.didx", x), m.Add(manifest.File{Name: "root.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum()}), w.Finish(ctx, m)); err != nil {
		s.t.Fatal(err)
	}
}

// holds fails unless a snapshot restores here to what was backed up.
func (s *site) holds(ns naming.Namespace, snap naming.Snapshot, seeds []int) error {
	x, err := s.d.ReadIndex(ns, snap, "root.pxar.didx")
	if err != nil {
		return err
	}
	if x.Len() != len(seeds) {
		return fmt.Errorf("it has %d chunks, want %d", x.Len(), len(seeds))
	}
	for i, d := range x.All() {
		b, err := s.d.Chunks().Get(context.Background(), d, nil)
		if err == nil {
			err = b.Verify(d, nil)
		}
		if err != nil || !bytes.Equal(b, chunk(seeds[i]).Blob) {
			return fmt.Errorf("chunk %d is not what was backed up: %w", i, err)
		}
	}
	return nil
}

// has tells whether a chunk can be had here.
func (s *site) has(seed int) bool {
	_, err := s.d.Chunks().Get(context.Background(), chunk(seed).Digest, nil)
	return err == nil
}

// rot flips a bit of a chunk on the disk of a site, and reports whether it lies
// there.
func (s *site) rot(seed int) bool {
	b := chunk(seed).Blob
	s.d.Close()
	defer s.open()
	for _, name := range s.mem.Names() {
		if !strings.Contains(name, "/packs/") {
			continue
		}
		if i := bytes.Index(s.mem.Bytes(name), b); i >= 0 {
			s.mem.FlipBit(name, int64(i+len(b)/2))
			return true
		}
	}
	return false
}
