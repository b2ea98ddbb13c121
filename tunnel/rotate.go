package tunnel

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"net/netip"
	"time"
)

// announcements are when peers are told of a new key: the first may be lost.
var announcements = [...]time.Duration{0, time.Second, 3 * time.Second}

// settled is how long a peer has to show its new key by data of its own,
// before we shake hands first: two handshakes at once are slower than one.
const settled = time.Second

// A sighting is a key that a peer was seen to use, while packets to it still
// go to another one.
type sighting struct {
	key   PublicKey
	since time.Time
}

// Rotate makes key the one that we use. Peers must know it already, beside the
// one before: give them both, the new one first; wait until they have them;
// rotate; and take the old one away some minutes later. Connections live on,
// packets wait for one round trip.
func (t *Tunnel) Rotate(key PrivateKey) error {
	next, err := ecdh.X25519().NewPrivateKey(key[:])
	if err != nil {
		return fmt.Errorf("tunnel: rotate to a new key: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if next.Equal(t.private) {
		return nil
	}
	if publicOf(next).mark() == publicOf(t.private).mark() {
		return &keyError{"rotate to a new key", t.cfg.Self}
	}
	release := t.stack.Hold()
	defer release()
	t.previous, t.private = t.private, next
	if err := t.useKey(next); err != nil {
		return err
	}
	select {
	case t.announce <- struct{}{}:
	default:
	}
	return nil
}

// A keyError is two keys of one node that cannot be told apart.
type keyError struct {
	op   string
	node NodeID
}

func (e *keyError) Error() string {
	return fmt.Sprintf("tunnel: %s: two keys of %s have the same mark", e.op, e.node)
}

func (e *keyError) Hint() string { return "make another key; this happens once in 65,536 times" }

// tellKey tells peers that we exchange packets with of our new key, each time
// there is one, until ctx ends.
func (t *Tunnel) tellKey(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.announce:
		}
		begun := time.Now()
		for _, at := range announcements {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(at - time.Since(begun)):
			}
			for _, addr := range t.talking() {
				t.stack.Announce(addr)
			}
		}
	}
}

// talking returns the addresses of peers in use.
func (t *Tunnel) talking() []netip.Addr {
	stats := t.bind.Stats()
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []netip.Addr
	for _, s := range stats {
		if p, ok := t.peers[s.ID]; ok && s.InUse {
			all = append(all, p.Address)
		}
	}
	return all
}

// usesKey notes that a peer uses one of its keys. Usually its data shows that
// first, inside the tunnel; this is for a peer that has nothing to send.
func (t *Tunnel) usesKey(node NodeID, key [32]byte) {
	k := PublicKey(key)
	if !t.mu.TryLock() { // packets do not wait for a table; the next ping will tell
		return
	}
	defer t.mu.Unlock()
	p, ok := t.peers[node]
	if !ok {
		return
	}
	if using, _ := t.stack.Using(p.Address); using == k.mark() {
		delete(t.seen, node)
		return
	}
	s := t.seen[node]
	if s.key != k {
		t.seen[node] = sighting{k, time.Now()}
		return
	}
	if time.Since(s.since) >= settled {
		t.stack.Use(p.Address, k.mark())
		delete(t.seen, node)
	}
}
