package remotes

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

// workers is how many chunks a stream has on their way at a time, as PBS itself
// has when it pulls.
const workers = 20

// A stream asks for chunks on the connections of the snapshots that name them.
type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan swarm.Answer // of chunks, in the order of their coming
	failed chan error        // 1: why the stream is of no more use

	moved   atomic.Int64 // bytes of blobs
	mu      sync.Mutex
	more    *sync.Cond // something is asked for, or the stream is closed
	asked   []chunks.Digest
	working sync.WaitGroup
}

// Open opens a stream. It makes no connection of its own.
func (s *Source) Open(ctx context.Context) (swarm.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{ctx: ctx, cancel: cancel, done: make(chan swarm.Answer, 2), failed: make(chan error, 1)}
	st.more = sync.NewCond(&st.mu)
	context.AfterFunc(ctx, func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.more.Broadcast()
	})
	for range workers {
		st.working.Go(func() { st.work(&s.open) })
	}
	return st, nil
}

func (s *stream) work(open *sessions) {
	for {
		d, ok := s.take()
		if !ok {
			return
		}
		b, err := open.get(s.ctx, d)
		s.moved.Add(int64(len(b)))
		if err != nil && !ofChunk(err) {
			select {
			case s.failed <- err:
			default: // one reason is enough
			}
			s.cancel()
			return
		}
		select {
		case s.done <- swarm.Answer{Digest: d, Blob: b, Err: err}:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *stream) take() (d chunks.Digest, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.asked) == 0 && s.ctx.Err() == nil {
		s.more.Wait()
	}
	if s.ctx.Err() != nil {
		return d, false
	}
	d, s.asked = s.asked[0], s.asked[1:]
	return d, true
}

// Moved returns how many bytes of chunks have come.
func (s *stream) Moved() int64 { return s.moved.Load() }

// Ask asks for chunks.
func (s *stream) Ask(ds []chunks.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.asked = append(s.asked, ds...)
	s.more.Broadcast()
	return nil
}

// Next returns the next answer. A connection that is silent fails by itself.
func (s *stream) Next(get func(n int) ([]byte, error)) (swarm.Answer, error) {
	select {
	case a := <-s.done:
		if a.Err != nil {
			return a, nil
		}
		room, err := get(len(a.Blob))
		if err != nil {
			return a, err
		}
		copy(room, a.Blob)
		a.Blob = room[:len(a.Blob)]
		return a, nil
	case <-s.ctx.Done():
		select {
		case err := <-s.failed:
			return swarm.Answer{}, err
		default:
			return swarm.Answer{}, context.Cause(s.ctx)
		}
	}
}

// Close ends the stream, and waits for what it had begun.
func (s *stream) Close() error {
	s.cancel()
	s.working.Wait()
	return nil
}

// ofChunk tells an error of one chunk, after which others can be had.
func ofChunk(err error) bool {
	var of *chunks.Error
	return errors.As(err, &of)
}
