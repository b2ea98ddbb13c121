package swarm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A peer answers in virtual time. Its blobs are eight bytes and count for size.
type peer struct {
	name   string
	each   time.Duration // for one chunk on one stream
	shared chan struct{} // if set, held for that time: all streams together are one line
	broken atomic.Int64  // so many streams fail after one answer
	holds  func(chunks.Digest) bool

	size      int           // bytes that arrive for a chunk, while it takes its time; 0: eight, at its end
	slowFirst time.Duration // for one chunk on the first stream, in the place of each
	opened    atomic.Int64

	asked atomic.Int64
	open  atomic.Int64
}

func (p *peer) Name() string { return p.name }

func (p *peer) Open(ctx context.Context) (Stream, error) {
	p.open.Add(1)
	s := &pipe{peer: p, ctx: ctx, takes: p.each, closed: make(chan struct{})}
	if p.opened.Add(1) == 1 && p.slowFirst > 0 {
		s.takes = p.slowFirst
	}
	return s, nil
}

type pipe struct {
	*peer
	ctx    context.Context
	queue  []chunks.Digest
	takes  time.Duration
	sent   int
	mu     sync.Mutex
	moved  int64
	began  time.Time // when the chunk did that is on its way; zero: none is
	once   sync.Once
	closed chan struct{}
}

func (s *pipe) Ask(ds []chunks.Digest) error {
	s.asked.Add(int64(len(ds)))
	s.queue = append(s.queue, ds...)
	return nil
}

func (s *pipe) Moved() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.moved
	if !s.began.IsZero() && s.size > 0 {
		n += int64(s.size) * int64(time.Since(s.began)) / int64(s.takes)
	}
	return n
}

// at notes when a chunk began, and what of the one before had arrived.
func (s *pipe) at(began time.Time, moved int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.moved = began, s.moved+int64(moved)
}

func (s *pipe) Close() error { s.once.Do(func() { close(s.closed); s.open.Add(-1) }); return nil }

func (s *pipe) Next(get func(int) ([]byte, error)) (a Answer, err error) {
	if s.shared != nil {
		s.shared <- struct{}{}
		defer func() { <-s.shared }()
	}
	s.at(time.Now(), 0)
	select {
	case <-time.After(s.takes):
	case <-s.closed:
		return a, errors.New("closed")
	}
	if s.sent > 0 && s.broken.Add(-1) >= 0 {
		return a, errors.New("broken")
	}
	a.Digest = s.queue[0]
	s.queue = s.queue[1:]
	s.sent++
	s.at(time.Time{}, max(s.size, 8)) // at once, so that nothing is counted twice
	if s.holds != nil && !s.holds(a.Digest) {
		a.Err = chunks.ErrMissing
		return a, nil
	}
	b, err := get(8)
	if err != nil {
		return a, err
	}
	copy(b, a.Digest[:8])
	a.Blob = b
	return a, nil
}

// fetch wants n chunks of some size of all sources, and returns how that went
// when all of them have come or failed.
func fetch(t *testing.T, n, size int, cfg Config, holders func(i int) uint64) (st Stats, failed int, took time.Duration) {
	t.Helper()
	put := map[chunks.Digest]int{}
	var mu sync.Mutex
	cfg.Put = func(_ context.Context, d chunks.Digest, _ chunks.Blob) error {
		mu.Lock()
		defer mu.Unlock()
		put[d]++
		return nil
	}
	cfg.Check = func(d chunks.Digest, b chunks.Blob) error {
		if chunks.Digest(append(b[:8:8], d[8:]...)) != d {
			return chunks.ErrCorrupt
		}
		return nil
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	var wg sync.WaitGroup
	var lost atomic.Int64
	var list []Chunk
	for i := range n {
		wg.Add(1)
		list = append(list, Chunk{Digest: chunks.Digest{byte(i), byte(i >> 8), 1}, Size: size, Holders: holders(i), Done: func(err error) {
			if err != nil {
				lost.Add(1)
			}
			wg.Done()
		}})
	}
	began := time.Now()
	s.Want(list)
	wg.Wait()
	took = time.Since(began)
	st = s.Stats()
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	for d, times := range put {
		if times != 1 {
			t.Errorf("chunk %s was put %d times", d.Short(), times)
		}
	}
	return st, int(lost.Load()), took
}

func both(int) uint64 { return 3 }

// A source that hangs keeps nobody waiting: what it was asked for and owes is
// asked of another one.
func TestHangingSourceIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, hangs := &peer{name: "good", each: 10 * time.Millisecond}, &peer{name: "hangs", each: time.Hour}
		st, failed, took := fetch(t, 40, 100<<10, Config{Sources: []Source{good, hangs}}, both)
		if failed > 0 || st.Fetched != 40 || took > 10*time.Second {
			t.Errorf("%d chunks came and %d failed after %v: %+v", st.Fetched, failed, took, st)
		}
	})
}

// Where each stream is slow by itself, as on a line that loses packets, there
// are more of them; where the line is full, there are not.
func TestStreamsGrowWhereThatHelps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := func(int) uint64 { return 1 }
		lossy := &peer{name: "lossy", each: 50 * time.Millisecond}
		_, _, took := fetch(t, 4000, 64<<10, Config{Sources: []Source{lossy}}, one)
		if four := 4000 / 4 * 50 * time.Millisecond; took > four/3 {
			t.Errorf("it took %v; four streams take %v, and sixteen a quarter of that", took, four)
		}
		full := &peer{name: "full", each: 5 * time.Millisecond, shared: make(chan struct{}, 1)}
		most, last := int64(0), int64(0)
		ctx, stop := context.WithCancel(t.Context())
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
				if n := full.open.Load(); n > 0 {
					most, last = max(most, n), n
				}
			}
		}()
		fetch(t, 4000, 64<<10, Config{Sources: []Source{full}}, one)
		stop()
		<-watched
		if most > 8 || last > 4 {
			t.Errorf("%d streams were opened on a line that is full, and %d stayed", most, last)
		}
	})
}

// What a broken stream owed is asked again, and a chunk that a source turns out
// not to have comes from another, or is lost and said to be.
func TestBrokenAndEmptySources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaks := &peer{name: "breaks", each: time.Millisecond}
		breaks.broken.Store(20)
		half := &peer{name: "half", each: time.Millisecond, holds: func(d chunks.Digest) bool { return d[0]%2 == 0 }}
		st, failed, _ := fetch(t, 200, 100<<10, Config{Sources: []Source{breaks, half}}, func(i int) uint64 {
			if i < 100 {
				return 3
			}
			return 2 // only half may have it
		})
		if failed != 50 || st.Fetched != 150 {
			t.Errorf("%d came and %d are lost, want 150 and the 50 that nobody has", st.Fetched, failed)
		}
	})
}

// The faster of two sources gives more.
func TestWorkIsSharedBySpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast := &peer{name: "fast", each: 10 * time.Millisecond, shared: make(chan struct{}, 1)}
		slow := &peer{name: "slow", each: 40 * time.Millisecond, shared: make(chan struct{}, 1)}
		st, _, took := fetch(t, 2000, 64<<10, Config{Sources: []Source{fast, slow}}, both)
		alone := 2000 * 10 * time.Millisecond
		if by := st.BySource; by[0].Chunks < 3*by[1].Chunks || took > alone*85/100 {
			t.Errorf("fast gave %d, slow %d, in %v; fast alone takes %v", by[0].Chunks, by[1].Chunks, took, alone)
		}
	})
}

// With one source, the last chunks are not waited for on its slowest stream.
func TestSlowStreamIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uneven := &peer{name: "uneven", each: 50 * time.Millisecond}
		uneven.slowFirst = time.Minute
		st, failed, took := fetch(t, 100, 2<<20, Config{Sources: []Source{uneven}}, func(int) uint64 { return 1 })
		if failed > 0 || took > 10*time.Second {
			t.Errorf("%d failed after %v: %+v", failed, took, st)
		}
	})
}

// A line that is slow, and whose streams all move, is not asked for anything
// twice: that would only make it slower.
func TestSlowLineIsNotAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		a := &peer{name: "a", each: 20 * time.Second, size: size}
		b := &peer{name: "b", each: 20 * time.Second, size: size}
		for _, holders := range []func(int) uint64{func(int) uint64 { return 1 }, both} {
			a.asked.Store(0)
			b.asked.Store(0)
			st, failed, _ := fetch(t, 50, size, Config{Sources: []Source{a, b}}, holders)
			if n := a.asked.Load() + b.asked.Load(); failed > 0 || n != 50 || st.Twice > 0 {
				t.Errorf("for 50 chunks the sources were asked for %d, and %d bytes came twice", n, st.Twice)
			}
		}
	})
}

// Streams are opened before it is known what they are for, if that will be soon,
// and closed when nothing comes of it.
func TestStreamsAreOpenedSoon(t *testing.T) {
	for _, soon := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := &peer{name: "home"}
			s, err := New(Config{Sources: []Source{p}, Put: func(context.Context, chunks.Digest, chunks.Blob) error { return nil }, Soon: soon})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			synctest.Wait()
			if n := p.opened.Load(); n > 0 != soon {
				t.Errorf("soon is %v, and %d streams were opened", soon, n)
			}
			time.Sleep(3 * idleFor)
			if n := p.open.Load(); n > 0 {
				t.Errorf("%d streams are open and nobody wants anything", n)
			}
			stop()
			<-done
		})
	}
}

// dead is a source that cannot be reached.
type dead struct{ peer }

func (*dead) Open(context.Context) (Stream, error) { return nil, errors.New("no route") }

// Somebody is told of a source that does not answer, and not again and again.
func TestSourceThatIsAwayIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		told := 0
		s, err := New(Config{
			Sources: []Source{&dead{peer{name: "home"}}},
			Put:     func(context.Context, chunks.Digest, chunks.Blob) error { return nil },
			Away: func(source string, err error) {
				mu.Lock()
				defer mu.Unlock()
				if told++; source != "home" || err == nil {
					t.Errorf("told of %q, %v", source, err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		gone := make(chan error, 1)
		s.Want([]Chunk{{Digest: chunks.Digest{1}, Size: 8, Holders: 1, Done: func(err error) { gone <- err }}})
		if err := <-gone; err == nil {
			t.Error("a chunk came from nowhere")
		}
		mu.Lock()
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		mu.Unlock()
		stop()
		<-done
	})
}
