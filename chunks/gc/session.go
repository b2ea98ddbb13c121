package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// pinBatch is how many digests are looked up in one hold of the gate: enough
// to make the lock cheap, few enough (some 10 us) that a sweep never waits.
const pinBatch = 128

// A Session is a lease on chunks: whatever it was told is here, and whatever
// it stored, stays until it ends. It is a [chunks.Writer]. A backup or a pull
// ends it with [Session.Finish]; a restore asks Missing for all chunks that it
// is going to read, reads them, and ends it with [Session.Abort].
//
// Every call renews the lease, and a call in progress never lapses. A lease
// idle for longer than the TTL loses its pins to the next sweep; the session
// can go on all the same, because Finish looks at everything again.
//
// The methods may be called concurrently, except Finish and Abort, which come
// after all others have returned.
type Session struct {
	c       *Collector
	id      LeaseID
	kind    string
	owner   string
	created time.Time

	mu sync.Mutex

	pins     pack.Set  // what stays because of this session
	fresh    pack.Set  // those of pins that are not in the journal
	used     time.Time // the latest activity
	noted    time.Time // the latest activity in the journal
	failures uint64    // of the store, at the last good Commit
	busy     int       // calls in progress
	recorded bool      // the journal knows the lease
	lapsed   bool      // a sweep took the pins; Renew has not told yet
	orphan   bool      // left by an earlier process and not resumed
	closed   bool
}

var _ chunks.Writer = (*Session)(nil)
var _ chunks.BatchSource = (*Session)(nil)

// ID returns the name by which the lease can be resumed after a crash.
func (s *Session) ID() LeaseID { return s.id }

// String names the store below.
func (s *Session) String() string { return s.c.cfg.Store.String() }

// enter begins a call, which renews the lease.
func (s *Session) enter() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("use lease %s of %s: %w", s.id, s.owner, ErrClosed)
	}
	now := time.Now()
	s.busy++
	s.used = now
	stale := s.recorded && now.Sub(s.noted) > s.c.cfg.TTL/4
	s.mu.Unlock()
	if stale {
		s.c.records.renew(s)
	}
	return nil
}

func (s *Session) leave() {
	s.mu.Lock()
	s.busy--
	s.used = time.Now()
	s.mu.Unlock()
}

// Renew keeps an idle lease alive. It reports false if the pins were lost
// since it was last called: a reader then has to ask Missing again.
func (s *Session) Renew() (kept bool, err error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, s.lapsed = !s.lapsed, false
	return kept, nil
}

// pin is "pin or miss": it looks ds up and pins what is here, as one step
// that no sweep can divide, and appends the others to missing. ds has at most
// pinBatch digests.
func (s *Session) pin(ds, missing []chunks.Digest) []chunks.Digest {
	var found [pinBatch]pack.Ref
	n := 0
	s.c.gate.RLock()
	defer s.c.gate.RUnlock()
	for _, d := range ds {
		if ref, ok := s.c.cfg.Store.Lookup(d); ok {
			found[n] = ref
			n++
		} else {
			missing = append(missing, d)
		}
	}
	s.mu.Lock()
	for _, ref := range found[:n] {
		s.add(ref)
	}
	s.mu.Unlock()
	return missing
}

// add pins ref. The caller holds s.mu.
func (s *Session) add(ref pack.Ref) {
	if s.pins.Add(ref) {
		s.fresh.Add(ref)
	}
}

// Known reports whether d is held, and pins it if so.
func (s *Session) Known(d chunks.Digest) bool {
	if s.enter() != nil {
		return false
	}
	defer s.leave()
	return len(s.pin([]chunks.Digest{d}, nil)) == 0
}

// Missing returns those of want that are not held and pins the others.
func (s *Session) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	var missing []chunks.Digest
	for batch := range slices.Chunk(want, pinBatch) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		missing = s.pin(batch, missing)
	}
	return missing, nil
}

// Put stores b under d unless d is held already, and pins it either way.
func (s *Session) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if len(s.pin([]chunks.Digest{d}, nil)) == 0 {
			return true, nil
		}
		if err := s.replaces(d, b); err != nil {
			return false, err
		}
		_, known, err := s.c.cfg.Store.Append(ctx, d, b, func(ref pack.Ref) {
			s.mu.Lock()
			s.add(ref)
			s.mu.Unlock()
		})
		if err != nil || !known {
			return false, err
		}
		// Somebody stored it between the two calls. It may be condemned by
		// now, so the store's word is worth nothing outside the gate.
	}
}

// Get returns the blob of d from the store.
func (s *Session) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.c.cfg.Store.Get(ctx, d, buf)
}

// GetMany reads many chunks in the order that suits the store.
func (s *Session) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.c.cfg.Store.GetMany(ctx, want, fn)
}

// ErrLost says that a write failed, here or for another session, and chunks
// not yet durable are gone. The disk has a problem, or is full.
var ErrLost = errors.New("a write to the store failed, and chunks since the last commit may be lost")

// Commit returns when every chunk put before the call is durable, and so are
// the pins: a crash after it leaves a lease that can be resumed.
func (s *Session) Commit(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	err := errors.Join(s.c.cfg.Store.Commit(ctx), s.c.anew.sync())
	failures := s.c.cfg.Store.Failures()
	s.mu.Lock()
	lost := failures != s.failures
	s.failures = failures
	s.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("make chunks of %s durable: %w", s.owner, err)
	case lost:
		return fmt.Errorf("make chunks of %s durable: %w", s.owner, ErrLost)
	}
	if err := s.c.records.save(s); err != nil {
		return fmt.Errorf("make lease of %s durable: %w", s.owner, err)
	}
	return nil
}

// Abort ends the session; what it stored and nobody else needs goes with the
// next garbage collection. Calling it after Finish or Abort does nothing.
func (s *Session) Abort() { s.c.release(s) }

// release ends a session. While a collection runs that may have listed the
// roots already, the pins live on until it has swept: that is what protects a
// snapshot published meanwhile. They do so after an Abort as well, because a
// caller may abort on an error that came after its manifest was in place.
func (c *Collector) release(s *Session) {
	c.mu.Lock()
	s.mu.Lock()
	first := !s.closed
	if first {
		s.closed = true
		delete(c.sessions, s.id)
		if c.late != nil {
			c.late.Or(&s.pins)
		}
	}
	forget := first && s.recorded
	s.mu.Unlock()
	c.mu.Unlock()
	if forget {
		c.records.forget(s.id)
	}
}
