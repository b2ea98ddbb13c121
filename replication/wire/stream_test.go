package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/replication/partial"
)

// manyReaders hands out all chunks of a batch at the same time, as a store does
// with those of several packs.
type manyReaders struct {
	Chunks
	size  int
	batch func(n int) // told of each batch, if given
}

func (manyReaders) LocateMany(ds []chunks.Digest, fn func(int, pack.Ref, bool)) {
	for i := range ds {
		fn(i, pack.Ref{}, true)
	}
}

func (c manyReaders) GetMany(_ context.Context, ds []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if c.batch != nil {
		c.batch(len(ds))
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(ds))
	for _, d := range ds {
		wg.Go(func() { errs <- fn(d, make([]byte, c.size), nil) })
	}
	wg.Wait()
	return <-errs
}

// lend serves one stream, and returns the peer's end and what tells that the
// server's end is over.
func lend(ch Chunks) (near net.Conn, ended chan error) {
	near, far := net.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- (&lender{ch: ch, conn: far, in: bufio.NewReader(far), memory: semaphore.NewWeighted(lendBytes)}).run()
	}()
	return near, ended
}

// A peer that reads slowly is waited for in a way that can be ended, by all who
// have something for it: in virtual time, which stands still while anybody waits
// for a mutex, this test hangs if one of them does not.
func TestSlowPeerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8
		near, ended := lend(manyReaders{size: 1000})
		s := &stream{conn: near, in: bufio.NewReader(near), flow: &flow{now: time.Now}}
		var ds []chunks.Digest
		for i := range n {
			ds = append(ds, chunks.Digest{byte(i)})
		}
		if err := s.Ask(ds); err != nil {
			t.Fatal(err)
		}
		got := map[chunks.Digest]bool{}
		for range n / 2 {
			time.Sleep(10 * time.Second)
			a, err := s.Next(func(n int) ([]byte, error) { return make([]byte, n), nil })
			if err != nil || a.Err != nil || len(a.Blob) != 1000 {
				t.Fatalf("%v %v %d bytes", err, a.Err, len(a.Blob))
			}
			got[a.Digest] = true
		}
		if len(got) != n/2 {
			t.Errorf("%d chunks came, want %d", len(got), n/2)
		}
		near.Close()
		<-ended
	})
}

// A peer that reads no more does not keep the server's memory for ever.
func TestDeafPeerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, ended := lend(manyReaders{size: 1000})
		defer near.Close()
		if err := (&stream{conn: near, flow: &flow{now: time.Now}}).Ask([]chunks.Digest{{1}, {2}, {3}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-ended; err == nil || time.Since(began) > 2*quiet {
			t.Errorf("the stream ended with %v after %v", err, time.Since(began))
		}
	})
}

// A stream has one batch in memory, or one chunk, also before it knows how large chunks
// are; of small ones it reads many at a time.
func TestBatchesAreBounded(t *testing.T) {
	for _, size := range []int{4 << 20, 4 << 10} {
		most := 0
		near, ended := lend(manyReaders{size: size, batch: func(n int) { most = max(most, n*size) }})
		s := &stream{conn: near, in: bufio.NewReader(near), flow: &flow{now: time.Now}}
		const n = 400
		var ds []chunks.Digest
		for i := range n {
			ds = append(ds, chunks.Digest{byte(i), byte(i >> 8)})
		}
		asked := ds[:min(n, 64<<20/size)]
		if err := s.Ask(asked); err != nil {
			t.Fatal(err)
		}
		for range asked {
			if _, err := s.Next(func(n int) ([]byte, error) { return make([]byte, n), nil }); err != nil {
				t.Fatal(err)
			}
		}
		near.Close()
		<-ended
		if most > max(batchBytes, size) || most < 256*size && size < 1<<20 {
			t.Errorf("of chunks of %d bytes, %d bytes were read at a time", size, most)
		}
	}
}

// countedReaders count the blobs that are in memory at a time.
type countedReaders struct {
	manyReaders
	now, most *atomic.Int64
}

func (c countedReaders) GetMany(ctx context.Context, ds []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if n := c.now.Add(int64(len(ds))); n > c.most.Load() {
		c.most.Store(n)
	}
	defer c.now.Add(-int64(len(ds)))
	return c.manyReaders.GetMany(ctx, ds, fn)
}

// However many streams a peer opens, and reads slowly, what is in memory for it
// stays within a bound, and every stream gets what it asked for.
func TestStreamsOfAPeerShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, streams = 4 << 20, 24
		var now, most atomic.Int64
		memory := semaphore.NewWeighted(lendBytes)
		var reading sync.WaitGroup
		for i := range streams {
			near, far := net.Pipe()
			l := &lender{ch: countedReaders{manyReaders{size: size}, &now, &most}, conn: far, in: bufio.NewReader(far), memory: memory}
			reading.Go(func() { _ = l.run() })
			reading.Go(func() {
				defer near.Close()
				s := &stream{conn: near, in: bufio.NewReader(near), flow: &flow{now: time.Now}}
				if err := s.Ask([]chunks.Digest{{byte(i), 1}, {byte(i), 2}, {byte(i), 3}}); err != nil {
					t.Error(err)
				}
				for range 3 {
					time.Sleep(time.Second)
					if _, err := s.Next(func(n int) ([]byte, error) { return make([]byte, n), nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		reading.Wait()
		// The first chunk of a stream is taken to be of a usual size.
		if n := most.Load() * size; n > 2*lendBytes || n < lendBytes/2 {
			t.Errorf("%d MiB were in memory at a time, want about %d", n>>20, lendBytes>>20)
		}
	})
}

// Where chunks come fast, their beginnings are not written to the disk beside
// them; where one takes long, they are.
func TestBeginningsOfSlowChunks(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct {
		name  string
		pause time.Duration // in the midst of the second chunk
		kept  bool
	}{{"fast", 0, false}, {"that stops", time.Second, true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parts, err := partial.Open(disktest.NewMem(), "/parts")
				if err != nil {
					t.Fatal(err)
				}
				near, far := net.Pipe()
				s := &stream{conn: near, in: bufio.NewReader(near), flow: &flow{now: time.Now}}
				s.Continue(parts)
				go func() {
					defer far.Close()
					send := func(d byte) []byte { return appendAnswer(nil, chunks.Digest{d}, size, stateHeld) }
					_, _ = far.Write(append(send(1), make([]byte, size)...))
					_, _ = far.Write(append(send(2), make([]byte, size/4)...))
					time.Sleep(tt.pause)
					_, _ = far.Write(make([]byte, size/4))
				}()
				get := func(n int) ([]byte, error) { return make([]byte, n), nil }
				if _, err := s.Next(get); err != nil {
					t.Fatal(err)
				}
				if a, err := s.Next(get); err == nil {
					t.Fatalf("%d bytes came of a chunk that was cut", len(a.Blob))
				}
				p := parts.Take(chunks.Digest{2})
				if got := p != nil && p.Have() == size/2; got != tt.kept {
					t.Errorf("its beginning is kept: %v, want %v", got, tt.kept)
				}
			})
		})
	}
}

// failing cannot read a chunk, for some reason.
type failing struct {
	manyReaders
	why error
}

func (f failing) GetMany(_ context.Context, ds []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return fn(ds[0], nil, &chunks.Error{Op: "read", Digest: ds[0], Place: "there", Err: f.why})
}

// Why a peer cannot read a chunk was told apart by words in a text, so that a message that
// quotes them was taken for it. A code says it; a peer of before sends none.
func TestWhyAChunkFailed(t *testing.T) {
	quotes := fmt.Errorf("%w: its log says %q", chunks.ErrCorrupt, chunks.ErrAway)
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"away":             {failure(fmt.Errorf("%w: it rains", chunks.ErrAway)), chunks.ErrAway},
		"damaged":          {failure(quotes), chunks.ErrCorrupt},
		"away, before":     {[]byte(chunks.ErrAway.Error() + ": it rains"), chunks.ErrAway},
		"damaged, before":  {[]byte("it is damaged"), chunks.ErrCorrupt},
		"nothing is said":  {nil, chunks.ErrCorrupt},
		"nothing but away": {[]byte{codeAway}, chunks.ErrAway},
	} {
		err := failed(c.text)
		if other := map[error]error{chunks.ErrAway: chunks.ErrCorrupt, chunks.ErrCorrupt: chunks.ErrAway}[c.want]; !errors.Is(err, c.want) || errors.Is(err, other) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a peer cannot read because its bucket is away is not damaged there.
func TestPeerWhoseBucketIsAway(t *testing.T) {
	for why, want := range map[error]error{
		fmt.Errorf("%w: it rains", chunks.ErrAway): chunks.ErrAway, chunks.ErrMissing: chunks.ErrMissing, chunks.ErrCorrupt: chunks.ErrCorrupt,
	} {
		near, ended := lend(failing{why: why})
		s := &stream{conn: near, in: bufio.NewReader(near), flow: &flow{now: time.Now}}
		go func() {
			if err := s.Ask([]chunks.Digest{{1}}); err != nil {
				t.Error(err)
			}
		}()
		a, err := s.Next(func(n int) ([]byte, error) { return make([]byte, n), nil })
		if err != nil || !errors.Is(a.Err, want) || want == chunks.ErrAway && errors.Is(a.Err, chunks.ErrCorrupt) {
			t.Errorf("%v is told as %v, %v", why, a.Err, err)
		}
		near.Close()
		<-ended
	}
}
