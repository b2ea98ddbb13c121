package bind

import (
	"bytes"
	"sync"
	"time"
)

// WireGuard sends a handshake again after five seconds, and when both ends
// begin at the same time neither handshake succeeds before that. Handshakes
// here are sent again sooner, byte for byte, which is harmless because nobody
// accepts one twice; and of two that cross, that of the lower node ID wins.
const (
	resendAgain = 100 * time.Millisecond // between answers to the same initiation

	resendUntil = 5 * time.Second // the last time is over; then WireGuard makes another

	minCrossing, maxCrossing = 100 * time.Millisecond, 500 * time.Millisecond
)

// resendAfter is when an initiation that is not answered goes out again, on
// top of two round trips. The first is soon: a queue that is full of data
// drops it easily, and data waits for it.
func resendAfter(n int) time.Duration {
	after := [...]time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2500 * time.Millisecond}
	if n >= len(after) {
		return time.Hour
	}
	return after[n]
}

// handshakes are those between one key of ours and one of a peer; what the peer
// sent is kept with the first pair of ours, for only WireGuard can read whose it
// is.
type handshakes struct {
	mu sync.Mutex

	initiation []byte // ours, until it is answered
	begun      time.Duration
	resent     int
	stuck      bool // there was no path to send it by

	heard    []byte // the last initiation of the peer
	answer   []byte // our response to it
	answered time.Duration
}

// begins notes an initiation of ours.
func (h *handshakes) begins(m []byte, now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.initiation = append(h.initiation[:0], m...)
	h.begun, h.resent, h.stuck = now, 0, false
}

// answers notes our response to what was heard last.
func (h *handshakes) answers(m []byte, now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.heard) >= 8 && len(m) >= 12 && bytes.Equal(h.heard[4:8], m[8:12]) {
		h.answer = append(h.answer[:0], m...)
		h.answered = now
	}
}

// pending reports whether an initiation of ours is on its way for less than
// that.
func (h *handshakes) pending(now, than time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.initiation) > 0 && now-h.begun < than
}

// confirmed notes that the peer has keys in common with us.
func (h *handshakes) confirmed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.initiation = h.initiation[:0]
}

// stick notes that there was no path for what was sent last.
func (h *handshakes) stick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stuck = len(h.initiation) > 0
}

// unstick returns an initiation that there was no path for.
func (h *handshakes) unstick(now time.Duration) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stuck {
		return nil
	}
	h.stuck, h.begun = false, now
	return bytes.Clone(h.initiation)
}

// due returns an initiation to send again.
func (h *handshakes) due(now, rtt time.Duration) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.initiation) == 0 || now-h.begun < 2*rtt+resendAfter(h.resent) {
		return nil
	}
	h.resent++
	return bytes.Clone(h.initiation)
}

// came notes an initiation of the peer. If it is the same as the last, it
// returns the response to send again. drop is whether WireGuard must not see
// it: as it knows it already, or as ours came first.
func (h *handshakes) came(m []byte, now time.Duration, crossing bool) (again []byte, drop bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if bytes.Equal(m, h.heard) && len(h.answer) > 0 {
		if now-h.answered < resendAgain {
			return nil, true
		}
		h.answered = now
		return bytes.Clone(h.answer), true
	}
	if crossing {
		return nil, true
	}
	h.heard, h.answer = append(h.heard[:0], m...), h.answer[:0]
	return nil, false
}

// initiated sees an initiation of p for an identity, and reports whether
// WireGuard may.
func (b *Bind) initiated(p *Peer, id *Identity, m []byte, now time.Duration) bool {
	crossing := false
	if b.cfg.Self < p.id {
		window := maxCrossing
		if rtt := p.rtt(); rtt > 0 {
			window = min(max(2*rtt, minCrossing), maxCrossing)
		}
		for _, k := range *p.pairs.Load() {
			crossing = crossing || k.ours.Equal(id.key) && k.handshake.pending(now, window)
		}
	}
	again, drop := p.withKey(id.key).handshake.came(m, now, crossing)
	if again != nil {
		b.send(p, nil, [][]byte{again})
	}
	return !drop
}
