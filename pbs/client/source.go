package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
	"github.com/holdfast-mesh/holdfast/pbs/h2"
)

var (
	_ chunks.BatchSource = (*source)(nil)
	_ chunks.Lender      = (*source)(nil)
)

// A source reads the chunks of a snapshot. Many requests are on their way at
// the same time, as far as the client's budget of bytes goes. How long a chunk
// is shows only when it comes, so each is given what chunks have had so far;
// one that turns out longer, when there is no more to be had, is given up and
// asked for again with as much as any chunk can need. The budget therefore
// holds, and nobody waits for more while holding some.
type source struct {
	r        *Snapshot
	near     nearness
	expected expected

	mu   sync.Mutex
	mean int64 // bytes of recent chunks
}

// firstGuess is how long chunks are thought to be at first, in bytes.
const firstGuess = 2 << 20

func newSource(r *Snapshot) *source {
	s := &source{r: r, near: r.c.near(r.session), mean: firstGuess}
	s.expected.s, s.expected.budget, s.expected.held = s, r.c.expecting, map[chunks.Digest]*early{}
	return s
}

// String names the place for messages.
func (s *source) String() string { return s.r.String() }

// guess returns how many bytes to set aside for a chunk: a quarter more than
// they have had.
func (s *source) guess() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(s.mean+s.mean/4, s.least()), chunks.MaxBlob)
}

// least is what a chunk has set aside at least, so that there are not too many
// requests.
func (s *source) least() int64 { return s.r.c.cfg.InFlight / wire.Streams }

// learn takes the length of a chunk into account.
func (s *source) learn(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mean += (int64(n) - s.mean) / 16
}

// Get returns a chunk.
func (s *source) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	lent, err := s.Lend(ctx, d)
	if err != nil {
		return nil, err
	}
	defer lent.Free()
	return append(buf[:0], lent.Bytes...), nil
}

// Lend returns a chunk in a buffer that the caller frees.
func (s *source) Lend(ctx context.Context, d chunks.Digest) (*chunks.Buffer, error) {
	if b := s.expected.take(ctx, d); b != nil {
		return s.checked(d, b)
	}
	l := loan{s: s, budget: s.r.c.receiving}
	if err := l.take(ctx, s.guess()); err != nil {
		return nil, err
	}
	defer l.giveBack()
	return l.read(ctx, d)
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
			buf, err := l.read(gctx, d)
			switch {
			case err == nil:
				defer buf.Free()
				return fn(d, buf.Bytes, nil)
			case !isOfChunk(err):
				return err
			}
			return fn(d, nil, err)
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
	s           *source
	budget      *semaphore.Weighted
	bytes, cost int64 // that it is for, and that were taken
}

// take waits for n bytes.
func (l *loan) take(ctx context.Context, n int64) error {
	cost := l.s.near.cost(n)
	if err := l.budget.Acquire(ctx, cost); err != nil {
		return err
	}
	l.bytes, l.cost = n, cost
	return nil
}

// fit makes the loan as large as a chunk of n bytes needs, if that can be done
// at once.
func (l *loan) fit(n int64) bool {
	n = max(n, l.s.least())
	cost := l.s.near.cost(n)
	switch {
	case cost > l.cost && !l.budget.TryAcquire(cost-l.cost):
		return false
	case cost < l.cost:
		l.budget.Release(l.cost - cost)
	}
	l.bytes, l.cost = n, cost
	return true
}

func (l *loan) giveBack() {
	l.budget.Release(l.cost)
	l.bytes, l.cost = 0, 0
}

// read reads a chunk and checks its frame.
func (l *loan) read(ctx context.Context, d chunks.Digest) (*chunks.Buffer, error) {
	b, err := l.tryRead(ctx, d)
	if errors.Is(err, errOutgrown) {
		l.giveBack()
		if err := l.take(ctx, chunks.MaxBlob); err != nil {
			return nil, err
		}
		b, err = l.tryRead(ctx, d)
	}
	if err != nil {
		return nil, l.s.explain(d, err)
	}
	l.s.learn(len(b.Bytes))
	return l.s.checked(d, b)
}

// checked returns a blob after a look at its frame, and frees one that is no
// good.
func (s *source) checked(d chunks.Digest, b *chunks.Buffer) (*chunks.Buffer, error) {
	if err := chunks.Blob(b.Bytes).Check(); err != nil {
		b.Free()
		return nil, &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: err}
	}
	return b, nil
}

// errOutgrown says that a chunk has no room in its loan.
var errOutgrown = errors.New("chunk is longer than thought")

// tryRead asks for a chunk and reads the answer. Memory is taken when that
// begins: only then is it known how much is needed.
func (l *loan) tryRead(ctx context.Context, d chunks.Digest) (*chunks.Buffer, error) {
	var buf *chunks.Buffer
	text, err := l.s.r.session.Fetch(ctx, wire.Exchange{
		Doing: "read chunk " + d.Short(), Method: "GET", Path: "/chunk", Query: url.Values{"digest": {d.String()}},
	}, func(a h2.Answer) ([]byte, error) {
		have := int64(len(a.Body))
		room := max(2*have, l.bytes) // more than was thought
		switch {
		case have > chunks.MaxBlob || a.Length > chunks.MaxBlob:
			return nil, errLong
		case a.Length >= 0:
			room = a.Length
		}
		if room = min(room, chunks.MaxBlob); !l.fit(room) {
			return nil, errOutgrown
		}
		switch {
		case buf == nil:
			buf = chunks.GetBuffer(int(room))
		case int64(cap(buf.Bytes)) <= room:
			buf.Bytes = slices.Grow(a.Body, int(room-have)+1)[:0]
		}
		return buf.Bytes[: have : room+1], nil // one byte more than there should be shows that there is more
	})
	switch {
	case buf == nil && err == nil: // it is empty
		return chunks.GetBuffer(0), nil
	case err == nil && len(text) <= chunks.MaxBlob:
		buf.Bytes = buf.Bytes[:len(text)]
		return buf, nil
	case err == nil:
		err = errLong
	}
	if buf != nil && (errors.Is(err, errOutgrown) || errors.Is(err, errLong)) {
		buf.Free()
	}
	return nil, err
}

var errLong = fmt.Errorf("%w: it has more than %d bytes encoded", chunks.ErrCorrupt, chunks.MaxBlob)

// explain makes an error of one chunk out of the server's refusal.
func (s *source) explain(d chunks.Digest, err error) error {
	var no *APIError
	switch {
	case errors.Is(err, chunks.ErrCorrupt):
	case !errors.As(err, &no):
		return err
	case no.Status == http.StatusUnauthorized: // it is in no index that was downloaded
	case no.Status == http.StatusServiceUnavailable:
		err = fmt.Errorf("%w: %s", chunks.ErrAway, no.Error()) // its text: the hint of a 503 is about servers
	default:
		err = fmt.Errorf("%w: %w", chunks.ErrMissing, no)
	}
	return &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: err}
}
