package ahead

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A packed source has the chunks of an index in packs, in an order of its own.
// Each request takes 30 ms.
type packed struct {
	mu      sync.Mutex
	places  map[chunks.Digest]Want
	blobs   map[chunks.Digest]chunks.Blob
	fetches int
	read    int // chunks that came by fetches
	now     int // fetches that are under way
	peak    int
	most    int64 // bytes of one request
	singles int
	chunk   time.Duration // that a chunk takes on the line
	broken  map[chunks.Digest]bool
	near    map[chunks.Digest]bool
}

var errBroken = errors.New("broken")

func (s *packed) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	select {
	case <-time.After(30 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.singles++
	if s.broken[d] {
		return nil, errBroken
	}
	return append(buf[:0], s.blobs[d]...), nil
}

func (s *packed) Alone(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	return s.Get(ctx, d, buf)
}

func (s *packed) Find(d chunks.Digest) (Want, bool) {
	w, ok := s.places[d]
	return w, ok && !s.near[d]
}

func (s *packed) Fetch(ctx context.Context, wants []Want, _ bool, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	select {
	case <-time.After(30 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	s.now++
	s.peak = max(s.peak, s.now)
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	s.fetches++
	s.read += len(wants)
	last := wants[len(wants)-1]
	s.most = max(s.most, last.Off+last.N-wants[0].Off)
	s.mu.Unlock()
	for i, w := range wants {
		if i > 0 && (w.Pack != wants[0].Pack || w.Off < wants[i-1].Off+wants[i-1].N) {
			return errors.New("these are not in order, or not of one pack")
		}
		s.mu.Lock()
		b, broken := s.blobs[w.Digest], s.broken[w.Digest]
		s.mu.Unlock()
		time.Sleep(s.chunk)
		if broken {
			if err := fn(w, w.Digest, nil, errBroken); err != nil {
				return err
			}
			continue
		}
		if err := fn(w, w.Digest, b, nil); err != nil {
			return err
		}
	}
	return nil
}

const (
	size    = 1 << 20 // of a chunk, as the places say; the blobs are a few bytes
	perPack = 60
)

// scattered returns an index of n chunks of 1 MiB, in packs of 60 MiB, each
// chunk at most off places away from where the index has it.
func scattered(t *testing.T, n, off int) (*packed, chunks.Index) {
	t.Helper()
	s := &packed{places: map[chunks.Digest]Want{}, blobs: map[chunks.Digest]chunks.Blob{}, broken: map[chunks.Digest]bool{}, near: map[chunks.Digest]bool{}}
	var b chunks.DynamicBuilder
	type placed struct {
		d   chunks.Digest
		key int
	}
	var order []placed
	rng := rand.New(rand.NewPCG(1, uint64(off)))
	for i := range n {
		blob := chunks.Blob{byte(i), byte(i >> 8), byte(i >> 16)}
		d := chunks.Sum(blob)
		s.blobs[d] = blob
		order = append(order, placed{d, i + rng.IntN(off+1)})
		if err := b.Append(b.End()+size, d); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(order, func(a, b placed) int { return a.key - b.key })
	for i, o := range order {
		s.places[o.d] = Want{Digest: o.d, Pack: Pack{Number: uint32(i / perPack), Size: perPack * size}, Entry: uint32(i % perPack), Off: int64(i%perPack) * size, N: size}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return s, x
}

func (s *packed) want(t *testing.T, p *Plan, i int) {
	t.Helper()
	b, err := p.Get(t.Context(), i, nil)
	if err != nil || !bytes.Equal(b, s.blobs[p.x.Digest(i)]) {
		t.Errorf("chunk %d: %x, %v", i, b, err)
	}
}

// restore asks for everything, some chunks at a time.
func restore(t *testing.T, s *packed, x chunks.Index, room *Room, parallel int) {
	t.Helper()
	p := NewPlan(s, x, room, 512<<10)
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range x.Len() {
		g.Go(func() error {
			s.want(t, p, i)
			time.Sleep(time.Millisecond) // what the client does with it
			if p.bytesNow() > planBytes {
				t.Errorf("%d bytes are held", p.bytesNow())
			}
			return nil
		})
	}
	_ = g.Wait()
	p.Close()
	if p.bytes != 0 || len(p.held) != 0 {
		t.Errorf("%d bytes are left taken, %d chunks held", p.bytes, len(p.held))
	}
}

func (p *Plan) bytesNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// Whatever the order in the packs, and however many requests overtake each
// other, a restore takes about a request for each pack, and no more memory than
// it may.
func TestARestoreReadsWholePacks(t *testing.T) {
	for _, off := range []int{0, 7, 40} {
		for _, parallel := range []int{1, 8, 32} {
			synctest.Test(t, func(t *testing.T) {
				s, x := scattered(t, 1000, off)
				restore(t, s, x, &Room{}, parallel)
				begin := parallel / 4 // before an order is proven
				if n := s.fetches + s.singles; n > 25+off+begin {
					t.Errorf("%d places off, %d at a time: %d requests of packs and %d of chunks, for 17 packs", off, parallel, s.fetches, s.singles)
				}
				if s.read > 1000+8 {
					t.Errorf("%d places off, %d at a time: %d chunks were read", off, parallel, s.read)
				}
			})
		}
	}
}

// Those who come late at the beginning are seen to together, also when all behind
// them was read already: that there were 45 requests for 17 packs then was the
// scheduler's luck.
func TestWhoComesLateAtTheBeginning(t *testing.T) {
	for _, n := range []int{10, 33, 40, 64, 80} {
		synctest.Test(t, func(t *testing.T) {
			s, x := scattered(t, n, 0)
			p := NewPlan(s, x, &Room{}, 512<<10)
			defer p.Close()
			late := min(n, 37) - 9
			var g errgroup.Group
			ask := func(from, to int) {
				for i := from; i < to; i++ {
					g.Go(func() error { s.want(t, p, i); return nil })
				}
				synctest.Wait()
			}
			for i := range 9 { // with a gap between any two
				g.Go(func() error { s.want(t, p, late+i*5%9); return nil })
			}
			synctest.Wait()
			ask(late+9, n)
			ask(0, late)
			_ = g.Wait()
			if most := 28 + n/perPack; s.fetches+s.singles > most {
				t.Errorf("%d chunks: %d requests of packs and %d of chunks, want at most %d", n, s.fetches, s.singles, most)
			}
			if s.read > n+8 {
				t.Errorf("%d chunks: %d were read", n, s.read)
			}
		})
	}
}

// In order, this is what the mark of one request for 40 chunks is about.
func TestAThousandChunksTakeTwentyFiveRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 1000, 8)
		restore(t, s, x, &Room{}, 8)
		if n := s.fetches + s.singles; n > 25+2 { // 25, but for a scheduler that does not take turns
			t.Errorf("%d requests of packs and %d of chunks", s.fetches, s.singles)
		}
	})
}

func TestRandomReadsReadNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 1000, 0)
		p := NewPlan(s, x, &Room{}, 512<<10)
		defer p.Close()
		for i := range 100 {
			s.want(t, p, 999-i*389%900)
		}
		if s.read > 0 || s.singles != 100 {
			t.Errorf("%d chunks were read ahead, %d by themselves", s.read, s.singles)
		}
	})
}

// A reader that passes over most of what it could have does not pay for all.
func TestASparseReaderIsNotReadAheadForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 6000, 0)
		p := NewPlan(s, x, &Room{}, 512<<10)
		defer p.Close()
		asked := 0
		for i := 0; i < x.Len(); i += 20 {
			s.want(t, p, i)
			asked++
		}
		if s.read > 0 {
			t.Errorf("%d chunks were asked for, %d were read ahead", asked, s.read)
		}
	})
}

// Without room each chunk is read by itself, and nothing waits for anything.
func TestPlansShareTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := &Room{}
		var g errgroup.Group
		for range 6 {
			g.Go(func() error {
				s, x := scattered(t, 200, 5)
				restore(t, s, x, room, 4)
				return nil
			})
		}
		g.Go(func() error {
			for range 300 {
				time.Sleep(5 * time.Millisecond)
				room.mu.Lock()
				if room.taken > roomBytes {
					t.Errorf("%d bytes are taken", room.taken)
				}
				room.mu.Unlock()
			}
			return nil
		})
		_ = g.Wait()
		if room.taken != 0 {
			t.Errorf("%d bytes of the room are left taken", room.taken)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 100, 5)
		restoreFull(t, s, x)
		if s.singles != 100 {
			t.Errorf("%d of 100 chunks were read by themselves", s.singles)
		}
	})
}

// restoreFull reads everything when others have all the room.
func restoreFull(t *testing.T, s *packed, x chunks.Index) {
	p := NewPlan(s, x, &Room{taken: roomBytes}, 512<<10)
	defer p.Close()
	for i := range x.Len() {
		s.want(t, p, i)
	}
}

// What is damaged fails by its own request and takes nothing with it; what is
// on the disk is not asked of the bucket.
func TestDamageAndWhatIsNear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 200, 5)
		bad, near := x.Digest(77), x.Digest(99)
		s.broken[bad], s.near[near] = true, true
		p := NewPlan(s, x, &Room{}, 512<<10)
		defer p.Close()
		for i := range x.Len() {
			if x.Digest(i) == bad {
				if _, err := p.Get(t.Context(), i, nil); !errors.Is(err, errBroken) {
					t.Errorf("the damaged chunk: %v", err)
				}
				continue
			}
			s.want(t, p, i)
		}
		if s.singles != 2+proof-1 {
			t.Errorf("%d chunks were read by themselves", s.singles)
		}
	})
}

// A session that ends leaves nothing behind; one that waits goes at once.
func TestACanceledGetDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := scattered(t, 200, 5)
		p := NewPlan(s, x, &Room{}, 512<<10)
		ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		if _, err := p.Get(ctx, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
		p.Close()
		if p.room.taken != 0 {
			t.Errorf("%d bytes are still taken", p.room.taken)
		}
	})
}

// Several transfers fill the line for who reads in order, and others that come
// late have their share of the room.
func TestSeveralAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var room Room
		var g errgroup.Group
		begin := func() *packed {
			s, x := scattered(t, 1500, 5)
			s.chunk = 5 * time.Millisecond
			g.Go(func() error { restore(t, s, x, &room, 8); return nil })
			return s
		}
		first := begin()
		time.Sleep(time.Second)
		if first.peak < 3 {
			t.Errorf("%d transfers at most at the same time, want 3", first.peak)
		}
		late := []*packed{begin(), begin()}
		_ = g.Wait()
		for i, s := range late {
			if s.singles > 150 {
				t.Errorf("of 1500 chunks of late plan %d, %d were read by themselves", i, s.singles)
			}
		}
	})
}
