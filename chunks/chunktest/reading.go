package chunktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func missingKeepsOrder(ctx context.Context, w chunks.Writer) error {
	held, lost := few(40, 3), few(41, 3)
	if err := putAll(ctx, w, held...); err != nil {
		return err
	}
	h, l := digests(held), digests(lost)
	want := []chunks.Digest{l[2], h[0], l[0], l[2], h[1], h[1], l[1], h[2], l[0]}
	asked := slices.Clone(want)
	got, err := w.Missing(ctx, asked)
	if err != nil {
		return err
	}
	if expect := []chunks.Digest{l[2], l[0], l[2], l[1], l[0]}; !slices.Equal(got, expect) {
		return fmt.Errorf("Missing returned %d digests %s, want %s", len(got), short(got), short(expect))
	}
	if !slices.Equal(asked, want) {
		return errors.New("Missing changed the list that it was given")
	}
	return nil
}

func short(ds []chunks.Digest) []string {
	var s []string
	for _, d := range ds {
		s = append(s, d.Short())
	}
	return s
}

func absenceIsNamed(ctx context.Context, w chunks.Writer) error {
	if err := putAll(ctx, w, few(42, 2)...); err != nil {
		return err
	}
	d := chunks.Sum([]byte("nobody stored this"))
	if err := absent(ctx, w, d); err != nil {
		return err
	}
	_, err := w.Get(ctx, d, make([]byte, 0, 100))
	var named *chunks.Error
	if !errors.As(err, &named) {
		return fmt.Errorf("get a missing chunk: error %q is no *chunks.Error", err)
	}
	if named.Digest != d || named.Place != w.String() || named.Op == "" {
		return fmt.Errorf("get chunk %s in %q: the error has digest %s, place %q, operation %q",
			d.Short(), w, named.Digest.Short(), named.Place, named.Op)
	}
	return nil
}

// bufferSlack is the room beyond the blob from which a buffer counts as large
// enough: a store may read what it keeps around a blob together with it. A
// buffer of [chunks.GetBuffer] has this much.
const bufferSlack = 4096

func getUsesBuffer(ctx context.Context, w chunks.Writer) error {
	for _, size := range []int{1, 5000, 100_000} {
		c := Blob(uint64(43+size), size)
		if err := putAll(ctx, w, c); err != nil {
			return err
		}
		buf := make([]byte, 7, len(c.Blob)+bufferSlack) // the length does not count
		got, err := w.Get(ctx, c.Digest, buf)
		if err != nil {
			return err
		}
		if !slices.Equal(got, c.Blob) {
			return fmt.Errorf("get into a buffer: %s", firstDifference(got, c.Blob))
		}
		if &got[0] != &buf[0] {
			return fmt.Errorf("get of %d bytes does not use a buffer of %d", len(c.Blob), cap(buf))
		}
		small := make([]byte, len(c.Blob)-1)
		got, err = w.Get(ctx, c.Digest, small)
		if err != nil || !slices.Equal(got, c.Blob) {
			return fmt.Errorf("get into a buffer one byte too small: %s, error %v", firstDifference(got, c.Blob), err)
		}
	}
	return nil
}

func resultIsIndependent(ctx context.Context, w chunks.Writer) error {
	cs := []Chunk{Blob(44, 100), Blob(45, 70_000)}
	if err := putAll(ctx, w, cs...); err != nil {
		return err
	}
	for range 2 { // before Commit, and after
		for _, c := range cs {
			got, err := w.Get(ctx, c.Digest, nil)
			if err != nil {
				return err
			}
			clear(got[:cap(got)])
			if err := holds(ctx, w, c); err != nil {
				return fmt.Errorf("after the caller wrote into what Get returned: %w", err)
			}
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func putDoesNotRetain(ctx context.Context, w chunks.Writer) error {
	for _, c := range []Chunk{Blob(46, 100), Blob(47, 70_000)} {
		b := slices.Clone(c.Blob)
		if _, err := w.Put(ctx, c.Digest, b); err != nil {
			return err
		}
		clear(b)
		if err := holds(ctx, w, c); err != nil {
			return fmt.Errorf("after the caller wrote into what Put was given: %w", err)
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
		if err := holds(ctx, w, c); err != nil {
			return fmt.Errorf("after a Commit: %w", err)
		}
	}
	return nil
}

func batchEachOnce(ctx context.Context, w chunks.Writer) error {
	cs := append(few(50, 200), Blob(51, 300_000), Blob(52, 64<<10))
	if err := putAll(ctx, w, cs...); err != nil {
		return err
	}
	for range 2 { // before Commit, and after
		seen := newTally()
		err := chunks.GetMany(ctx, w, digests(cs), seen.count)
		if err != nil {
			return fmt.Errorf("GetMany of what is there: %w", err)
		}
		if err := seen.each(cs, 1); err != nil {
			return err
		}
		if err := w.Commit(ctx); err != nil {
			return err
		}
	}
	twice := newTally()
	if err := chunks.GetMany(ctx, w, append(digests(cs), digests(cs)...), twice.count); err != nil {
		return fmt.Errorf("GetMany of everything twice: %w", err)
	}
	return twice.each(cs, 2)
}

func batchMissing(ctx context.Context, w chunks.Writer) error {
	held, lost := few(53, 20), few(54, 20)
	if err := putAll(ctx, w, held...); err != nil {
		return err
	}
	seen := newTally()
	if err := chunks.GetMany(ctx, w, append(digests(lost), digests(held)...), seen.count); err != nil {
		return fmt.Errorf("GetMany with missing chunks: %w", err)
	}
	for _, c := range lost {
		if errs := seen.failed[c.Digest]; len(errs) != 1 || !errors.Is(errs[0], chunks.ErrMissing) {
			return fmt.Errorf("GetMany of missing chunk %s handed over %v, want one %v", c.Digest.Short(), errs, chunks.ErrMissing)
		}
	}
	if len(seen.failed) != len(lost) {
		return fmt.Errorf("GetMany handed over %d errors, want %d", len(seen.failed), len(lost))
	}
	seen.failed = nil
	return seen.each(held, 1)
}

func batchStops(ctx context.Context, w chunks.Writer) error {
	cs := few(55, 500)
	if err := putAll(ctx, w, cs...); err != nil {
		return err
	}
	enough := errors.New("enough")
	seen := newTally()
	err := chunks.GetMany(ctx, w, digests(cs), func(d chunks.Digest, b chunks.Blob, err error) error {
		_ = seen.count(d, b, err)
		return enough
	})
	if !errors.Is(err, enough) {
		return fmt.Errorf("GetMany whose function failed: error %v, want %v", err, enough)
	}
	if n := seen.calls(); n == 0 || n > len(cs)/2 {
		return fmt.Errorf("GetMany of %d chunks called a failing function %d times", len(cs), n)
	}
	return nil
}

func batchCancelled(ctx context.Context, w chunks.Writer) error {
	cs := few(56, 500)
	if err := putAll(ctx, w, cs...); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := newTally()
	err := chunks.GetMany(ctx, w, digests(cs), func(d chunks.Digest, b chunks.Blob, err error) error {
		cancel()
		_ = seen.count(d, b, err)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("GetMany whose context ended: error %v, want %v", err, context.Canceled)
	}
	if n := seen.calls(); n > len(cs)/2 {
		return fmt.Errorf("GetMany of %d chunks went on for %d after its context ended", len(cs), n)
	}
	return nil
}

// A tally counts what GetMany hands over.
type tally struct {
	mu     sync.Mutex
	whole  map[chunks.Digest]int
	failed map[chunks.Digest][]error
}

func newTally() *tally {
	return &tally{whole: map[chunks.Digest]int{}, failed: map[chunks.Digest][]error{}}
}

// count is for GetMany to call. A blob that is not that of d is a failure.
func (t *tally) count(d chunks.Digest, b chunks.Blob, err error) error {
	if err == nil {
		err = b.Verify(d, nil)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed[d] = append(t.failed[d], err)
		return nil
	}
	t.whole[d]++
	return nil
}

func (t *tally) calls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.whole) + len(t.failed)
}

// each wants every one of cs to have come whole n times, and nothing else.
func (t *tally) each(cs []Chunk, n int) error {
	for d, errs := range t.failed {
		return fmt.Errorf("GetMany handed over %s as an error: %w", d.Short(), errs[0])
	}
	for _, c := range cs {
		if t.whole[c.Digest] != n {
			return fmt.Errorf("GetMany handed over %s %d times, want %d", c.Digest.Short(), t.whole[c.Digest], n)
		}
	}
	if len(t.whole) != len(cs) {
		return fmt.Errorf("GetMany handed over %d different chunks, want %d", len(t.whole), len(cs))
	}
	return nil
}
