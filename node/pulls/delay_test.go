package pulls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// An uplink sends a MiB a second and queues whatever comes, as routers at home do:
// what is small waits behind what is large.
type uplink struct {
	mu    sync.Mutex
	free  time.Time // when the queue is empty
	conns chan net.Conn
	once  sync.Once
}

func (u *uplink) leaves(n int) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); u.free.Before(now) {
		u.free = now
	}
	u.free = u.free.Add(time.Duration(n) * time.Second >> 20)
	return u.free
}

// Dial and Listen make it the network of who pulls over it; Accept, Close and Addr
// the listener of who is behind it.
func (u *uplink) Listen(uint16) (net.Listener, error) { return nil, errors.ErrUnsupported }
func (u *uplink) Close() error                        { u.once.Do(func() { close(u.conns) }); return nil }
func (u *uplink) Addr() net.Addr                      { return &net.UnixAddr{} }

func (u *uplink) Dial(ctx context.Context, _ string, _ uint16) (net.Conn, error) {
	near, far := net.Pipe()
	s := &sender{Conn: far, up: u, queue: make(chan packet, window), done: make(chan struct{})}
	go s.pump()
	select {
	case u.conns <- s:
		return near, nil
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

func (u *uplink) Accept() (net.Conn, error) {
	c, open := <-u.conns
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

// A sender is the end of a connection behind the uplink. It has window packets of
// 4 KiB on their way.
type sender struct {
	net.Conn
	up    *uplink
	queue chan packet
	done  chan struct{}
	once  sync.Once
}

type packet struct {
	data []byte
	at   time.Time // when it has arrived
}

const window = 64

func (s *sender) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, 4<<10) {
		select {
		case s.queue <- packet{slices.Clone(part), s.up.leaves(len(part))}:
			n += len(part)
		case <-s.done:
			return n, net.ErrClosed
		}
	}
	return n, nil
}

func (s *sender) pump() {
	for {
		select {
		case p := <-s.queue:
			time.Sleep(time.Until(p.at))
			if _, err := s.Conn.Write(p.data); err != nil {
				s.Close()
				return
			}
		case <-s.done:
			return
		}
	}
}

func (s *sender) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.Conn.Close()
}

func memory(t *testing.T) *catalog.Datastore {
	mem := disktest.NewMem()
	if _, err := identity.Init(mem, "/store", 0); err != nil {
		t.Fatal(err)
	}
	d, err := catalog.Open(t.Context(), catalog.Config{Dir: "/store", FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// large makes a backup of so many chunks of 128 KiB.
func large(t *testing.T, d *catalog.Datastore, n int) {
	snap := naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "1"}, Time: 1e9}
	w, err := d.Begin(t.Context(), "", snap, "root@pam")
	if err != nil {
		t.Fatal(err)
	}
	var b chunks.DynamicBuilder
	for seed := range n {
		c := chunktest.Blob(uint64(seed), 128<<10)
		_, err := w.Session().Put(t.Context(), c.Digest, c.Blob)
		if err = errors.Join(err, b.Append(b.End()+128<<10, c.Digest)); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.New(snap)
	if err := errors.Join(w.PutIndex("a.pxar.didx", x), m.Add(manifest.File{Name: "a.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum()}), w.Finish(t.Context(), m)); err != nil {
		t.Fatal(err)
	}
}

// A job keeps the uplink of its source usable, as its max-delay says: what is small
// gets through while it fetches. Without a guard it waits behind all that is queued.
func TestMaxDelayOfAJob(t *testing.T) {
	warm, err := chunks.Encode(nil, make([]byte, 1000), chunks.EncodeOptions{Compress: true}) // zstd begins outside of bubbles
	if err == nil {
		_, err = warm.Decode(nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	waits := map[string]time.Duration{}
	for _, delay := range []string{"", "off"} {
		t.Run("max-delay="+delay, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { waits[delay] = usualWait(t, settings.SyncJob{MaxDelay: delay}) })
		})
	}
	t.Logf("what is small waits %v with a guard, and %v without one", waits[""], waits["off"])
	if waits[""] > 300*time.Millisecond || waits["off"] < 2*waits[""] {
		t.Errorf("it waits %v with a guard, and %v without one", waits[""], waits["off"])
	}
}

// usualWait pulls 40 MiB over an uplink and returns how long the answer to something
// small takes meanwhile, once the guard has had time to see how it is.
func usualWait(t *testing.T, j settings.SyncJob) time.Duration {
	home, dc := memory(t), memory(t)
	defer home.Close()
	defer dc.Close()
	large(t, home, 320)
	server, err := wire.NewServer(wire.ServerConfig{
		Names: func() []string { return []string{"main"} },
		Store: func(string) (wire.Store, wire.Chunks, error) { return home, home.Chunks(), nil },
		Who:   func(*http.Request) (string, bool) { return "dc", true },
		May:   func(string, string, naming.Namespace) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	up := &uplink{conns: make(chan net.Conn)}
	srv := &http.Server{Handler: server}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(up) }()

	p := &Pulls{cfg: Config{Self: "dc", Network: up, Log: slog.New(slog.DiscardHandler)}}
	ctx, stop := context.WithCancel(t.Context())
	lines := newGuards(ctx, delayOf(j))
	member := Member{ID: "home", Name: "home"}
	source, err := lines.client(p, member, "main", nil)
	small, err2 := p.client(member, "main", nil)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	var waits []time.Duration
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			if took, err := small.Ping(ctx); err == nil {
				waits = append(waits, took)
			}
		}
	})
	puller, err := replication.New(replication.Config{Local: dc, Sources: []replication.Source{source}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := puller.Run(ctx, replication.Job{ID: "job", Options: plan.Options{Owner: "root@pam"}})
	if err != nil || r.Pulled != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	stop()
	asking.Wait()
	lines.end()
	source.Close()
	small.Close()
	srv.Close()
	<-served
	server.Wait()
	time.Sleep(time.Minute) // connections end
	if len(waits) < 20 {
		t.Fatal(fmt.Sprint("too few answers: ", waits))
	}
	late := waits[len(waits)/2:]
	slices.Sort(late)
	return late[len(late)/2]
}
