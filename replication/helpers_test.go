package replication_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
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
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

const (
	storeName = "main"
	owner     = "root@pam"
)

func group(s string) naming.Group {
	g, err := naming.ParseGroup(s)
	if err != nil {
		panic(err)
	}
	return g
}

// at is the snapshot of a group on a day.
func at(g string, day int) naming.Snapshot {
	return naming.Snapshot{Group: group(g), Time: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, day).Unix()}
}

// large is the first seed of chunks of 1 MiB.
const large = 1 << 20

// made are the chunks by their seeds: making them takes longer than storing.
var made sync.Map

func chunk(seed uint64) chunktest.Chunk {
	if c, ok := made.Load(seed); ok {
		return c.(chunktest.Chunk)
	}
	size := 2000 + int(seed%7)*811
	if seed >= large {
		size = 1 << 20
	}
	c := chunktest.Blob(seed, size)
	made.Store(seed, c)
	return c
}

// A site is a datastore that may serve others.
type site struct {
	t    testing.TB
	name string
	mem  *disktest.Mem
	d    *catalog.Datastore
}

func newSite(t testing.TB, name string) *site {
	t.Helper()
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	if _, err := identity.Init(mem, "/store", 0); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, name: name, mem: mem}
	s.open()
	t.Cleanup(func() { s.d.Close() })
	return s
}

func (s *site) open() {
	s.t.Helper()
	d, err := catalog.Open(context.Background(), catalog.Config{Dir: "/store", FS: s.mem})
	if err != nil {
		s.t.Fatal(err)
	}
	s.d = d
}

// backUp makes a snapshot of the chunks of seeds.
func (s *site) backUp(ns string, snap naming.Snapshot, who string, seeds ...uint64) {
	s.t.Helper()
	ctx := context.Background()
	parts := naming.Namespace(ns).Components()
	for i := range parts {
		must(s.t, s.d.CreateNamespace(naming.Namespace(strings.Join(parts[:i+1], "/"))))
	}
	w, err := s.d.Begin(ctx, naming.Namespace(ns), snap, who)
	must(s.t, err)
	var b chunks.DynamicBuilder
	for _, seed := range seeds {
		c := chunk(seed)
		_, err := w.Session().Put(ctx, c.Digest, c.Blob)
		must(s.t, err)
		must(s.t, b.Append(b.End()+int64(len(c.Blob)-chunks.PlainHeaderSize), c.Digest))
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(s.t, err)
	conf := chunktest.Encode(fmt.Appendf(nil, "%s has %v", snap, seeds), chunks.EncodeOptions{}).Blob
	m := manifest.New(snap)
	must(s.t, errors.Join(
		w.PutIndex("root.pxar.didx", x), w.PutBlob("guest.conf.blob", conf),
		m.Add(manifest.File{Name: "root.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum()}),
		m.Add(manifest.File{Name: "guest.conf.blob", Size: uint64(len(conf)), Csum: sha256.Sum256(conf)}),
	))
	must(s.t, w.Finish(ctx, m))
}

// same fails the test unless a snapshot is the same here and there, to the
// byte, and whole.
func (s *site) same(ns string, there *site, from string, snap naming.Snapshot) {
	s.t.Helper()
	if err := s.compare(naming.Namespace(ns), there, naming.Namespace(from), snap); err != nil {
		s.t.Errorf("%s at %s is not what it is at %s: %v", snap, s.name, there.name, err)
	}
}

func (s *site) compare(ns naming.Namespace, there *site, from naming.Namespace, snap naming.Snapshot) error {
	want, err := there.d.Files(from, snap)
	if err != nil {
		return err
	}
	have, err := s.d.Files(ns, snap)
	if err != nil || !slices.Equal(want, have) {
		return fmt.Errorf("files are %v, want %v (%w)", have, want, err)
	}
	for _, f := range want {
		if f == manifest.Name {
			continue
		}
		if !strings.HasSuffix(f, ".didx") {
			a, err := there.d.ReadBlob(from, snap, f)
			b, err2 := s.d.ReadBlob(ns, snap, f)
			if err = errors.Join(err, err2); err != nil || !bytes.Equal(a, b) {
				return fmt.Errorf("%s differs (%w)", f, err)
			}
			continue
		}
		x, err := s.d.ReadIndex(ns, snap, f)
		if err != nil {
			return err
		}
		for _, d := range x.All() {
			b, err := s.d.Chunks().Get(context.Background(), d, nil)
			if err == nil {
				err = b.Verify(d, nil)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A link is a peer's service as the puller reaches it.
type link struct {
	*pipeListener
	srv  *http.Server
	wire *wire.Server
	done chan struct{}

	mu    sync.Mutex
	conns []net.Conn
	down  bool
	wrap  func(net.Conn) net.Conn // of the puller's ends
}

// serve lets a site serve a peer that may read what may says; nil means all.
func (s *site) serve(may func(naming.Namespace) bool) *link { return s.serveWith(may, nil) }

// serveSums lets it hand on signed sums as well.
func (s *site) serveSums(k *vouch.Keeper) *link { return s.serveWith(nil, k) }

func (s *site) serveWith(may func(naming.Namespace) bool, k *vouch.Keeper) *link {
	s.t.Helper()
	if may == nil {
		may = func(naming.Namespace) bool { return true }
	}
	var sums func(context.Context, string, naming.Namespace, naming.Snapshot) ([]vouch.File, error)
	if k != nil {
		sums = func(ctx context.Context, _ string, ns naming.Namespace, snap naming.Snapshot) ([]vouch.File, error) {
			return k.Files(ctx, ns, snap)
		}
	}
	server, err := wire.NewServer(wire.ServerConfig{
		Vouch: sums,
		Names: func() []string { return []string{storeName} },
		Store: func(string) (wire.Store, wire.Chunks, error) { return s.d, s.d.Chunks(), nil },
		Who:   func(*http.Request) (string, bool) { return "puller", true },
		May:   func(_, _ string, ns naming.Namespace) bool { return may(ns) },
	})
	must(s.t, err)
	l := &link{pipeListener: newPipeListener(), srv: &http.Server{Handler: server}, wire: server, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		_ = l.srv.Serve(l.pipeListener)
	}()
	return l
}

func (l *link) close() {
	l.srv.Close()
	l.cut()
	<-l.done
	l.wire.Wait()
}

// cut breaks all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *link) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, errors.New("the link is down")
	}
	c, err := l.pipeListener.dial(ctx)
	if err != nil {
		return nil, err
	}
	if l.wrap != nil {
		c = l.wrap(c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

// source returns the site behind a link as a source.
func (s *site) source(l *link, in *rate.Bucket) *wire.Client {
	c, err := wire.NewClient(wire.ClientConfig{Peer: s.name, Store: storeName, Dial: l.dial, In: in})
	must(s.t, err)
	return c
}

// A pipeListener is a network in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- a:
		return b, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A log collects the lines of a task log.
type taskLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *taskLog) printf(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, a...))
}

func (l *taskLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func puller(t testing.TB, here *site, log *taskLog, sources ...replication.Source) *replication.Puller {
	t.Helper()
	p, err := replication.New(replication.Config{Local: here.d, Sources: sources, Printf: log.printf})
	must(t, err)
	return p
}

func job(opt plan.Options) replication.Job {
	if opt.Owner == "" {
		opt.Owner = owner
	}
	return replication.Job{ID: "home-to-dc", Options: opt}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digests(seeds ...uint64) (ds []chunks.Digest) {
	for _, seed := range seeds {
		ds = append(ds, chunk(seed).Digest)
	}
	return ds
}

// damage flips a bit of a blob wherever it lies on the disk.
func (s *site) damage(b chunks.Blob) {
	s.t.Helper()
	for _, name := range s.mem.Names() {
		if !strings.Contains(name, "/packs/") {
			continue
		}
		if i := bytes.Index(s.mem.Bytes(name), b); i >= 0 {
			s.mem.FlipBit(name, int64(i+len(b)/2))
			return
		}
	}
	s.t.Fatal("the blob is nowhere")
}
