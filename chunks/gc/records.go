package gc

import (
	"fmt"
	"iter"
	"log/slog"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// rewriteAbove is the size in bytes above which the journal is written anew,
// if that is twice what it was after the last time: large enough to be rare,
// small enough that replaying it takes no time.
const rewriteAbove = 8 << 20

// records writes what sessions have to remember across a crash.
type records struct {
	log   *disk.Journal
	state func() iter.Seq[[]byte] // all that a new journal must hold
	slog  *slog.Logger

	// mu keeps a rewrite and what it must contain apart from what is
	// appended: nothing is, between the look at the sessions and the end.
	mu sync.Mutex

	broken bool  // what was appended may be missing: rewrite before anything else
	size   int64 // after the last rewrite
}

// save makes the session's pins durable. Many callers share one fsync.
func (r *records) save(s *Session) error {
	r.mu.Lock()
	r.append(s)
	broken := r.broken
	r.mu.Unlock()
	if !broken {
		err := r.log.Sync()
		if err == nil {
			r.trim()
			return nil
		}
		r.slog.Warn("journal of leases failed and is written anew", "err", err)
	}
	return r.rewrite()
}

// append hands over what the journal does not know of the session yet. The
// caller holds r.mu.
func (r *records) append(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !s.recorded {
		r.log.Append(encodeOpened(s.id, s.created, s.used, s.kind, s.owner))
	}
	for rec := range encodePins(s.id, s.used, &s.fresh) {
		r.log.Append(rec)
	}
	s.recorded, s.noted, s.fresh = true, s.used, pack.Set{}
}

// renew notes that the lease is in use. It is not made durable: a crash that
// loses it makes the lease end earlier, which is safe.
func (r *records) renew(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	if s.recorded && !s.closed {
		r.log.Append(encodeRenewed(s.id, s.used))
		s.noted = s.used
	}
	s.mu.Unlock()
	r.flush()
}

// forget notes that the lease has ended.
func (r *records) forget(id LeaseID) {
	r.mu.Lock()
	r.log.Append(encodeClosed(id))
	r.flush()
	r.mu.Unlock()
	r.trim()
}

// flush hands the records to the file system, which is enough to outlive this
// process. The caller holds r.mu.
func (r *records) flush() {
	if err := r.log.Flush(); err != nil && !r.broken {
		r.broken = true
		r.slog.Warn("journal of leases failed and will be written anew", "err", err)
	}
}

// trim writes the journal anew if it has grown too large.
func (r *records) trim() {
	r.mu.Lock()
	large := r.log.Size() > max(rewriteAbove, 2*r.size)
	r.mu.Unlock()
	if !large {
		return
	}
	if err := r.rewrite(); err != nil {
		r.slog.Warn("journal of leases could not be written anew", "err", err)
	}
}

// rewrite makes the journal say what is true now, and no more.
func (r *records) rewrite() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true // until it has worked: state() takes the pins for written
	if err := r.log.Rewrite(r.state()); err != nil {
		return fmt.Errorf("write the journal of leases anew: %w", err)
	}
	r.broken, r.size = false, r.log.Size()
	return nil
}

// encodeLeases yields the records of all leases that have something to
// remember. The caller holds records.mu.
func (c *Collector) encodeLeases() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, s := range c.open() {
			if !s.encode(yield) {
				return
			}
		}
	}
}

// encode yields the records that say all of a session. It does not hold s.mu
// while they are written: whoever appends a chunk may wait for that.
func (s *Session) encode(yield func([]byte) bool) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return true
	}
	used, pins := s.used, s.pins.Clone()
	s.recorded, s.noted, s.fresh = true, used, pack.Set{}
	s.mu.Unlock()
	if !yield(encodeOpened(s.id, s.created, used, s.kind, s.owner)) {
		return false
	}
	for rec := range encodePins(s.id, used, pins) {
		if !yield(rec) {
			return false
		}
	}
	return true
}
