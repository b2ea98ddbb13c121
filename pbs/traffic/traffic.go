// Package traffic limits how fast connections are, by rules about where they
// come from, whose they are and what time it is (PBS protocol notes §7.6, §8.2).
//
// All connections that a rule applies to share its rate, one for each
// direction. "In" is what the node receives. Of several rules that apply, the
// one with the most specific network does. A rule is looked for when a
// connection is made, when it is known whose it is, and every second while data
// moves, so a change holds for connections that are there.
package traffic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A Limiter has the rules that are in force. It may be used by many connections
// at the same time.
type Limiter struct {
	mu    sync.Mutex // held while rules change
	rules atomic.Pointer[[]*rule]
}

// A rule is one that was read.
type rule struct {
	settings.TrafficRule
	networks []netip.Prefix
	times    []jobs.Window // none: always
	in, out  *bucket
}

// New returns a Limiter without rules.
func New() *Limiter {
	l := &Limiter{}
	l.rules.Store(&[]*rule{})
	return l
}

// Follow puts the rules in force that s has now.
func (l *Limiter) Follow(s settings.Store) error {
	l.mu.Lock() // or of two who follow, the one that read first could be last
	defer l.mu.Unlock()
	return l.set(s.State().TrafficRules)
}

// Set puts rules in force. Those that stay as they are go on with what they
// have counted. If one of them makes no sense, none is changed.
func (l *Limiter) Set(list []settings.TrafficRule) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set(list)
}

func (l *Limiter) set(list []settings.TrafficRule) error {
	rules := make([]*rule, 0, len(list))
	for _, text := range list {
		r, err := parse(text)
		if err != nil {
			return fmt.Errorf("traffic rule %s: %w", text.Name, err)
		}
		rules = append(rules, r)
	}
	old := *l.rules.Load()
	for _, r := range rules {
		if i := slices.IndexFunc(old, func(o *rule) bool { return o.Name == r.Name }); i >= 0 {
			r.in, r.out = old[i].in.become(r.in), old[i].out.become(r.out)
		}
	}
	l.rules.Store(&rules)
	return nil
}

// Check says what is wrong with a rule.
func Check(text settings.TrafficRule) error {
	_, err := parse(text)
	return err
}

func parse(text settings.TrafficRule) (*rule, error) {
	r := &rule{TrafficRule: text}
	if len(text.Networks) == 0 {
		return nil, errors.New("it has no network")
	}
	for _, s := range text.Networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("network %q: want ADDRESS/BITS", s)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("network %q: write it as an IPv4 network", s)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		r.networks = append(r.networks, p.Masked())
	}
	for _, s := range text.Timeframe {
		w, err := jobs.ParseWindow(s)
		if err != nil {
			return nil, err
		}
		r.times = append(r.times, w)
	}
	var err error
	if r.in, err = newBucket(text.RateIn, text.BurstIn); err != nil {
		return nil, fmt.Errorf("in: %w", err)
	}
	if r.out, err = newBucket(text.RateOut, text.BurstOut); err != nil {
		return nil, fmt.Errorf("out: %w", err)
	}
	return r, nil
}

// applies tells whether the rule is for a connection, and how specific the
// network is that it comes from.
func (r *rule) applies(from netip.Addr, user string, now time.Time) (bits int, ok bool) {
	if len(r.times) > 0 && !slices.ContainsFunc(r.times, func(w jobs.Window) bool { return w.Contains(now) }) {
		return 0, false
	}
	if len(r.Users) > 0 && !slices.Contains(r.Users, owner(user)) {
		return 0, false
	}
	bits = -1
	for _, n := range r.networks {
		if n.Contains(from) {
			bits = max(bits, n.Bits())
		}
	}
	return bits, bits >= 0
}

// owner returns the user that a token is of, or the user.
func owner(user string) string {
	name, _, _ := strings.Cut(user, "!")
	return name
}

// find returns the rule for a connection, nil if there is none: that with the
// most specific network, of those one that names users, of those the first by
// name.
func (l *Limiter) find(from netip.Addr, user string, now time.Time) *rule {
	var best *rule
	bestBits := -1
	for _, r := range *l.rules.Load() {
		bits, ok := r.applies(from, user, now)
		switch {
		case !ok:
		case best == nil, bits > bestBits, bits == bestBits && len(r.Users) > 0 && len(best.Users) == 0:
			best, bestBits = r, bits
		}
	}
	return best
}

// A Rate is what goes through a rule at the moment, in bytes per second.
type Rate struct {
	settings.TrafficRule
	In, Out int64
}

// Rates returns the rules with what goes through them.
func (l *Limiter) Rates() []Rate {
	list := []Rate{}
	for _, r := range *l.rules.Load() {
		list = append(list, Rate{r.TrafficRule, r.in.rate(), r.out.rate()})
	}
	return list
}

// Listen returns a listener whose connections keep to the rules.
func (l *Limiter) Listen(inner net.Listener) net.Listener { return &listener{inner, l} }

type listener struct {
	net.Listener
	limiter *Limiter
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.limiter.Wrap(c), nil
}

// Wrap returns a connection that keeps to the rules.
func (l *Limiter) Wrap(c net.Conn) *Conn {
	from := netip.Addr{}
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		from = a.Addr().Unmap().WithZone("")
	}
	return &Conn{Conn: c, limiter: l, from: from, closed: make(chan struct{})}
}
