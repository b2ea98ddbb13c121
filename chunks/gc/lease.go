package gc

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A LeaseID names a lease. It is random, so that a stale one finds nothing
// rather than the lease of somebody else.
type LeaseID uint64

// newLeaseID returns a random ID.
func newLeaseID() LeaseID {
	var b [8]byte
	rand.Read(b[:])
	return LeaseID(binary.LittleEndian.Uint64(b[:]))
}

// ParseLeaseID reads what String writes.
func ParseLeaseID(s string) (LeaseID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("lease id %q is not 16 hexadecimal digits", s)
	}
	return LeaseID(n), nil
}

// String returns the ID as 16 hexadecimal digits.
func (id LeaseID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// MarshalText writes what String returns.
func (id LeaseID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// A Lease describes a session, of this process or left behind by a crash.
type Lease struct {
	ID        LeaseID   `json:"id"`
	Kind      string    `json:"kind"`
	Owner     string    `json:"owner"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"` // if nothing renews it
	Pins      int       `json:"pins"`    // chunks it keeps
	Recovered bool      `json:"recovered"`
}

// The ways in which a lease cannot be used.
var (
	ErrClosed  = errors.New("lease is closed")
	ErrNoLease = errors.New("no such lease is waiting to be resumed")
)

// Leases lists all leases, oldest first.
func (c *Collector) Leases() []Lease {
	var all []Lease
	for _, s := range c.open() {
		s.mu.Lock()
		if !s.closed {
			all = append(all, Lease{
				ID: s.id, Kind: s.kind, Owner: s.owner, Created: s.created,
				Expires: s.used.Add(c.cfg.TTL), Pins: s.pins.Len(), Recovered: s.orphan,
			})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Lease) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Open begins a session. Kind is a word such as "backup", "restore" or
// "pull"; owner says whose it is. Both are for people and at most 255 bytes.
func (c *Collector) Open(kind, owner string) (*Session, error) {
	if len(kind) > maxName || len(owner) > maxName {
		return nil, fmt.Errorf("open lease: kind and owner have %d and %d bytes, want at most %d", len(kind), len(owner), maxName)
	}
	now := time.Now()
	s := &Session{
		c: c, id: newLeaseID(), kind: kind, owner: owner, created: now,
		used: now, noted: now, failures: c.cfg.Store.Failures(),
	}
	c.mu.Lock()
	c.sessions[s.id] = s
	c.mu.Unlock()
	return s, nil
}

// Resume takes over a lease that an earlier process left behind, with the
// pins that its last Commit made durable. That saves work and no more: ask
// Missing what has to be sent again. (Where a crash undid a condemnation or a
// move, a chunk has two copies, and the lease may have pinned the one that the
// store does not know.) It fails with [ErrNoLease] if the lease has expired,
// was closed, or is in use.
func (c *Collector) Resume(id LeaseID) (*Session, error) {
	c.mu.Lock()
	s := c.sessions[id]
	c.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("resume lease %s: %w", id, ErrNoLease)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.orphan {
		return nil, fmt.Errorf("resume lease %s: %w", id, ErrNoLease)
	}
	s.orphan = false
	s.used = time.Now()
	return s, nil
}

// open returns the sessions at this moment.
func (c *Collector) open() []*Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*Session, 0, len(c.sessions))
	for _, s := range c.sessions {
		all = append(all, s)
	}
	return all
}
