package reader

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// slow is a store in which every read takes 10 ms.
type slow struct {
	mu      sync.Mutex
	singles int
	batches [][]chunks.Digest
	broken  chunks.Digest
}

var errBroken = errors.New("broken")

func (s *slow) String() string { return "slow store" }

func (s *slow) blob(d chunks.Digest) (chunks.Blob, error) {
	if d == s.broken {
		return nil, errBroken
	}
	return chunks.Blob(d[:]), nil
}

func (s *slow) Get(_ context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	time.Sleep(10 * time.Millisecond)
	s.mu.Lock()
	s.singles++
	s.mu.Unlock()
	b, err := s.blob(d)
	return append(buf, b...), err
}

func (s *slow) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	s.mu.Lock()
	s.batches = append(s.batches, slices.Clone(want))
	s.mu.Unlock()
	for _, d := range want {
		time.Sleep(10 * time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.blob(d)
		if err := fn(d, b, err); err != nil {
			return err
		}
	}
	return nil
}

// numbered returns the index of n chunks of 1000 bytes.
func numbered(t *testing.T, n int) *contents { return sized(t, n, 1000) }

// sized returns the index of n chunks of size bytes.
func sized(t *testing.T, n int, size int64) *contents {
	t.Helper()
	var b chunks.DynamicBuilder
	for i := range n {
		if err := b.Append(b.End()+size, chunks.Sum([]byte{byte(i), byte(i >> 8)})); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return newContents(x)
}

func read(t *testing.T, a *readahead, c *contents, at int) error {
	t.Helper()
	d := c.index.Digest(at)
	blob, buffer, err := a.get(t.Context(), d, c, at)
	if err != nil {
		return err
	}
	defer buffer.Free()
	if chunks.Digest(blob) != d {
		t.Errorf("chunk %d is another", at)
	}
	return nil
}

// A client that needs 10 ms for each chunk, from a store that does as well,
// gets them in half the time: the next is read while it works on the last.
func TestReadingInOrderIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, c := &slow{}, numbered(t, 100)
		a := newReadahead(src, 32<<20)
		defer a.close()
		began := time.Now()
		for i := range 100 {
			if err := read(t, a, c, i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 1100*time.Millisecond || src.singles > proof {
			t.Errorf("it took %v, %d chunks were not ahead", took, src.singles)
		}
	})
}

// Large chunks are read ahead one by one, each once; one that is broken is the
// business of the request for it.
func TestLargeChunksAreReadAheadOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, c := &slow{}, sized(t, 100, large)
		src.broken = c.index.Digest(50)
		a := newReadahead(src, 16*large)
		defer a.close()
		began := time.Now()
		for i := range 100 {
			if err := read(t, a, c, i); (err != nil) != (i == 50) {
				t.Fatalf("chunk %d: %v", i, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 1100*time.Millisecond || len(src.batches) != 0 || src.singles > 101 {
			t.Errorf("it took %v, with %d reads and %d batches", took, src.singles, len(src.batches))
		}
	})
}

func TestRandomReadingReadsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, c := &slow{}, numbered(t, 1000)
		a := newReadahead(src, 32<<20)
		defer a.close()
		for i := range 100 {
			if err := read(t, a, c, i*389%1000); err != nil {
				t.Fatal(err)
			}
		}
		if src.singles != 100 || len(src.batches) != 0 {
			t.Errorf("%d reads and %d batches for 100 chunks", src.singles, len(src.batches))
		}
	})
}

// No more is held than allowed, even if the client skips what was read ahead.
func TestReadaheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, c := &slow{}, numbered(t, 1000)
		a := newReadahead(src, 10_000)
		defer a.close()
		for i := 0; i < 1000; i += 2 {
			if err := read(t, a, c, i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			a.mu.Lock()
			var sum int64
			for _, p := range a.held {
				sum += p.size
			}
			if sum != a.bytes || sum > a.limit {
				t.Fatalf("after chunk %d, %d bytes are held, %d are counted", i, sum, a.bytes)
			}
			a.mu.Unlock()
		}
	})
}

// A chunk that cannot be read ahead fails only the request for it.
func TestBrokenChunkFailsItsOwnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := numbered(t, 20)
		src := &slow{broken: c.index.Digest(10)}
		a := newReadahead(src, 32<<20)
		defer a.close()
		for i := range 20 {
			if err := read(t, a, c, i); (i == 10) != errors.Is(err, errBroken) {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
	})
}

// A request that ends while its chunk is being read leaves it to the next.
func TestRequestThatEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, c := &slow{}, numbered(t, 50)
		a := newReadahead(src, 32<<20)
		defer a.close()
		for i := range proof {
			if err := read(t, a, c, i); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := a.get(ctx, c.index.Digest(40), c, 40); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the request ended with: %v", err)
		}
		if err := read(t, a, c, 40); err != nil || src.singles != proof {
			t.Errorf("the next: %v, %d chunks were not ahead", err, src.singles)
		}
	})
}

func TestContentsFindTheFirst(t *testing.T) {
	var b chunks.DynamicBuilder
	for i, s := range []string{"b", "a", "b", "c", "a"} {
		if err := b.Append(int64(i+1), chunks.Sum([]byte(s))); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	c := newContents(x)
	for s, want := range map[string]int{"a": 1, "b": 0, "c": 3} {
		if at, ok := c.find(chunks.Sum([]byte(s))); !ok || at != want {
			t.Errorf("%s is found at %d, %v", s, at, ok)
		}
	}
	if _, ok := c.find(chunks.Sum([]byte("d"))); ok {
		t.Error("what is not there is found")
	}
}
