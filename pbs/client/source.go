package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

var _ chunks.BatchSource = (*source)(nil)

// A source reads the chunks of a snapshot. Many requests are on their way at
// the same time, as far as the client's budget of bytes goes. How long a chunk
// is shows only when it comes, so each is given what chunks have had so far;
// one that turns out longer, when there is no more to be had, is given up and
// asked for again with as much as any chunk can need. The budget therefore
// holds, and nobody waits for more while holding some.
type source struct {
	r        *Snapshot
	expected expected

	mu   sync.Mutex
	mean int64 // bytes of recent chunks
}

// firstGuess is how long chunks are thought to be at first, in bytes.
const firstGuess = 2 << 20

func newSource(r *Snapshot) *source {
	s := &source{r: r, mean: firstGuess}
	s.expected.s, s.expected.budget, s.expected.held = s, r.c.expecting, map[chunks.Digest]*early{}
	return s
}

// String names the place for messages.
func (s *source) String() string { return s.r.String() }

// guess returns how many bytes to set aside for a chunk: a quarter more than
// they have had, and not so few that there are too many requests.
func (s *source) guess() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(s.mean+s.mean/4, s.r.c.cfg.InFlight/wire.Streams), chunks.MaxBlob)
}

// learn takes the length of a chunk into account.
func (s *source) learn(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mean += (int64(n) - s.mean) / 16
}

// Get returns a chunk.
func (s *source) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if b := s.expected.take(ctx, d, buf); b != nil {
		return s.checked(d, b)
	}
	l := loan{s: s, budget: s.r.c.receiving}
	if err := l.take(ctx, s.guess()); err != nil {
		return nil, err
	}
	defer l.giveBack()
	return l.read(ctx, d, buf)
}

// GetMany hands out many chunks, in the order in which they come. It fails if
// the connection does. What fn works on counts as being on its way, so fn must
// not itself wait for chunks from the same client.
func (s *source) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, d := range want {
		l := loan{s: s, budget: s.r.c.receiving}
		if l.take(gctx, s.guess()) != nil {
			break // the group, or ctx, says why
		}
		g.Go(func() error {
			defer l.giveBack()
			buf := chunks.GetBuffer(int(l.bytes))
			defer buf.Free()
			b, err := l.read(gctx, d, buf.Bytes)
			switch {
			case err == nil:
				buf.Bytes = b
			case !isOfChunk(err):
				return err
			}
			return fn(d, b, err)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// isOfChunk reports whether an error concerns one chunk, and others can still
// be had.
func isOfChunk(err error) bool {
	var of *chunks.Error
	return errors.As(err, &of)
}

// A loan is the part of the budget that a chunk has.
type loan struct {
	s      *source
	budget *semaphore.Weighted
	bytes  int64
}

// take waits for n bytes.
func (l *loan) take(ctx context.Context, n int64) error {
	if err := l.budget.Acquire(ctx, n); err != nil {
		return err
	}
	l.bytes = n
	return nil
}

// grow makes the loan as large as n bytes, if that can be done at once.
func (l *loan) grow(n int64) bool {
	if n > l.bytes {
		if !l.budget.TryAcquire(n - l.bytes) {
			return false
		}
		l.bytes = n
	}
	return true
}

func (l *loan) giveBack() {
	l.budget.Release(l.bytes)
	l.bytes = 0
}

// read reads a chunk and checks its frame. It uses buf's memory if that is
// large enough.
func (l *loan) read(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	b, err := l.tryRead(ctx, d, buf)
	if errors.Is(err, errOutgrown) {
		l.giveBack()
		if err := l.take(ctx, chunks.MaxBlob); err != nil {
			return nil, err
		}
		b, err = l.tryRead(ctx, d, buf)
	}
	if err != nil {
		return nil, l.s.explain(d, err)
	}
	l.s.learn(len(b))
	return l.s.checked(d, b)
}

// checked returns a blob after a look at its frame.
func (s *source) checked(d chunks.Digest, b []byte) (chunks.Blob, error) {
	if err := chunks.Blob(b).Check(); err != nil {
		return nil, &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: err}
	}
	return b, nil
}

// errOutgrown says that a chunk has no room in its loan.
var errOutgrown = errors.New("chunk is longer than thought")

// tryRead asks for a chunk and reads the answer.
func (l *loan) tryRead(ctx context.Context, d chunks.Digest, buf []byte) ([]byte, error) {
	session, doing := l.s.r.session, "read chunk "+d.Short()
	resp, err := session.Send(ctx, wire.Exchange{Doing: doing, Method: "GET", Path: "/chunk", Query: url.Values{"digest": {d.String()}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // tells the server to stop, if there is more
	b, err := l.fill(resp.Body, max(resp.ContentLength, 0), buf[:0])
	if err == nil || errors.Is(err, errOutgrown) || errors.Is(err, chunks.ErrCorrupt) {
		return b, err
	}
	return nil, session.Broken(ctx, doing, err)
}

// fill reads body, of length bytes if that is known, into b.
func (l *loan) fill(body io.Reader, length int64, b []byte) ([]byte, error) {
	room := max(l.bytes, length)
	for {
		switch {
		case room > chunks.MaxBlob || len(b) > chunks.MaxBlob:
			return nil, fmt.Errorf("%w: it has more than %d bytes encoded", chunks.ErrCorrupt, chunks.MaxBlob)
		case int64(len(b)) > room: // more than was thought
			room = min(2*room, chunks.MaxBlob)
		}
		if !l.grow(room) {
			return nil, errOutgrown
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, int(room)+1-len(b))
		}
		// One byte more than there should be, so as to see the end.
		n, err := body.Read(b[len(b):min(cap(b), int(room)+1)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// explain makes an error of one chunk out of the server's refusal.
func (s *source) explain(d chunks.Digest, err error) error {
	var no *APIError
	switch {
	case errors.Is(err, chunks.ErrCorrupt):
	case !errors.As(err, &no):
		return err
	case no.Status == http.StatusUnauthorized: // it is in no index that was downloaded
	default:
		err = fmt.Errorf("%w: %w", chunks.ErrMissing, no)
	}
	return &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: err}
}
