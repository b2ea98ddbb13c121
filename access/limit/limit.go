// Package limit slows down who guesses passwords: it counts failed logins,
// and lets few passwords be worked on at once.
package limit

import (
	"net/netip"
	"sync"
	"time"
)

// An allowance is how many logins may fail in a burst, and how long it takes
// for one of them to be forgotten.
type allowance struct {
	burst  float64
	refill time.Duration
}

// Failed logins are counted three times over, since each count alone would let
// somebody guess. The second and third do not bind who has logged in before
// from his address, or others could lock him out.
var (
	// One address guesses one user's password: 10 guesses, then 120 an hour.
	perPair = allowance{10, 30 * time.Second}
	// One address tries one password with many users.
	perSource = allowance{50, 5 * time.Second}
	// Many addresses guess one user's password.
	perUser = allowance{100, 5 * time.Second}
)

const (
	// maxCounts bounds each table of the limiter; some 10 MB in all.
	maxCounts = 1 << 15
	// knownFor is how long an address is remembered for a good login.
	knownFor = 7 * 24 * time.Hour
)

// A count is how many failures were left at a time.
type count struct {
	left float64
	at   time.Time
}

// A Login is who is tried from where.
type Login struct{ Source, User string }

// A Limiter refuses logins that would only be guesses.
type Limiter struct {
	mu      sync.Mutex
	pairs   counts[Login]
	sources counts[string]
	users   counts[string]
	known   map[Login]time.Time // the last good login
	pending map[Login]int       // taken, and not decided yet
}

type counts[K comparable] struct {
	allowance
	of map[K]count
}

// New returns a Limiter that has seen nothing.
func New() *Limiter {
	return &Limiter{
		pairs:   counts[Login]{perPair, map[Login]count{}},
		sources: counts[string]{perSource, map[string]count{}},
		users:   counts[string]{perUser, map[string]count{}},
		known:   map[Login]time.Time{},
		pending: map[Login]int{},
	}
}

// Take charges a login before it is looked at, so that many at once do not
// slip through, and tells whether it may be looked at. A good one is given
// back with GiveBack.
func (l *Limiter) Take(p Login, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, known := l.known[p]
	known = known && now.Sub(seen) < knownFor
	if l.pairs.left(p, now) < 1 {
		return false
	}
	if !known && (l.sources.left(p.Source, now) < 1 || l.users.left(p.User, now) < 1) {
		return false
	}
	l.pairs.add(p, -1, now)
	l.sources.add(p.Source, -1, now)
	l.users.add(p.User, -1, now)
	l.pending[p]++
	return true
}

// MayWait tells whether a login that was not taken may be once others of its
// kind are decided: many machines that share an account log in at once, and
// none of them has failed.
func (l *Limiter) MayWait(p Login, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pairs.left(p, now)+float64(l.pending[p]) >= 1
}

// Failed notes that a login that was taken has failed.
func (l *Limiter) Failed(p Login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided(p)
}

func (l *Limiter) decided(p Login) {
	if l.pending[p]--; l.pending[p] <= 0 {
		delete(l.pending, p)
	}
}

// GiveBack forgets that the login was charged, as when it was never decided.
func (l *Limiter) GiveBack(p Login, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided(p)
	l.pairs.add(p, 1, now)
	l.sources.add(p.Source, 1, now)
	l.users.add(p.User, 1, now)
}

// Remember notes a good login.
func (l *Limiter) Remember(p Login, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, found := l.known[p]; !found && len(l.known) >= maxCounts {
		evict(l.known, func(seen time.Time) bool { return now.Sub(seen) >= knownFor })
	}
	l.known[p] = now
}

// left returns how many failures k has left.
func (c counts[K]) left(k K, now time.Time) float64 {
	n, found := c.of[k]
	if !found {
		return c.burst
	}
	return c.refilled(n, now)
}

func (c counts[K]) refilled(n count, now time.Time) float64 {
	return min(c.burst, n.left+float64(max(0, now.Sub(n.at)))/float64(c.refill))
}

func (c counts[K]) add(k K, n float64, now time.Time) {
	left := c.left(k, now) + n
	if left >= c.burst {
		delete(c.of, k)
		return
	}
	if _, found := c.of[k]; !found && len(c.of) >= maxCounts {
		evict(c.of, func(n count) bool { return c.refilled(n, now) >= c.burst })
	}
	c.of[k] = count{left, now}
}

// evict makes room for an eighth of a table: by what is of no use any more,
// and if that is not enough, by entries that chance picks, so that nobody can
// aim.
func evict[K comparable, V any](table map[K]V, useless func(V) bool) {
	enough := len(table) - len(table)/8
	for k, v := range table {
		if useless(v) {
			delete(table, k)
		}
	}
	for k := range table {
		if len(table) <= enough {
			return
		}
		delete(table, k)
	}
}

// Source returns what counts as one source of logins: an IPv4 address, or
// the /64 that one customer has of IPv6, from "ADDRESS" or "ADDRESS:PORT".
func Source(remote string) string {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		var port netip.AddrPort
		if port, err = netip.ParseAddrPort(remote); err != nil {
			return "" // a local socket, or a name: all together
		}
		addr = port.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}
