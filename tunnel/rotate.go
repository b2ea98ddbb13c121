package tunnel

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"time"
)

const (
	// grace is how long our old key is good beside a new one: as long as
	// WireGuard's sessions, so that none is cut off.
	grace = 3 * time.Minute

	// maxIdentities bounds our keys at a time: with one more, the oldest goes.
	maxIdentities = 3

	// firstAsk and lastAsk are between questions to nodes in use that were not
	// heard by our newest key yet.
	firstAsk, lastAsk = 100 * time.Millisecond, 2 * time.Second
	// otherwise is between looks at nodes while there are two keys: one may
	// have come into use.
	otherwise = 500 * time.Millisecond
)

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
// rotate; and take the old one away some minutes later. Packets go by the old
// key until a peer was heard by the new one, so nothing waits; the old one is
// good for three minutes.
func (t *Tunnel) Rotate(key PrivateKey) error {
	private, err := ecdh.X25519().NewPrivateKey(key[:])
	if err != nil {
		return fmt.Errorf("tunnel: rotate to a new key: %w", err)
	}
	talking := t.talking()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.identities) == 0 {
		return errClosed
	}
	if private.Equal(t.identities[0].key) {
		return nil
	}
	for _, k := range t.privateKeys() {
		if publicOf(private).mark() == publicOf(k).mark() {
			return &keyError{"rotate to a new key", t.cfg.Self}
		}
	}
	next, err := t.newIdentity(private)
	if err != nil {
		return err
	}
	next.nodes = map[NodeID]bool{}
	for _, p := range talking {
		next.nodes[p.ID] = true
	}
	before := t.identities
	t.identities = append([]*identity{next}, before...)
	if err := t.introduce(next); err != nil {
		t.identities = before
		next.wireGuard.Close()
		return errors.Join(err, t.bind.SetKeys(t.privateKeys(), t.olderKeys()...))
	}
	before[0].until = time.Now().Add(grace)
	select {
	case t.rotated <- struct{}{}:
	default:
	}
	return nil
}

// introduce has a new identity known to the bind and up.
func (t *Tunnel) introduce(next *identity) error {
	if err := t.bind.SetKeys(t.privateKeys(), t.olderKeys()...); err != nil {
		return err
	}
	if err := next.apply(t.peers); err != nil {
		return err
	}
	if !t.up {
		return nil
	}
	return next.wireGuard.Up()
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

// moveToNewKeys asks peers for an answer by our newest key, until those in use
// gave one, and gives old keys up when it is time.
func (t *Tunnel) moveToNewKeys(ctx context.Context) error {
	ask := firstAsk
	var next <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.rotated:
			ask = firstAsk
		case <-next:
		}
		t.giveUp(time.Now())
		switch unsettled := t.ask(); {
		case unsettled:
			next = time.After(ask)
			ask = min(2*ask, lastAsk)
		case t.changing():
			next = time.After(otherwise)
			ask = firstAsk
		default:
			next = nil
		}
	}
}

// changing reports whether we have more than one key.
func (t *Tunnel) changing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.identities) > 1
}

// ask asks peers in use that packets do not go to by the newest keys yet, and
// reports whether there are any.
func (t *Tunnel) ask() (unsettled bool) {
	if !t.changing() {
		return false
	}
	for _, p := range t.talking() {
		if t.stack.Settled(p.Address) {
			continue
		}
		unsettled = true
		if err := t.introduceTo(p); err != nil {
			t.cfg.Log.Warn("make a new key known", "peer", p.ID, "err", err)
			continue
		}
		t.stack.Announce(p.Address)
	}
	return unsettled
}

// introduceTo has our newest identity know a peer.
func (t *Tunnel) introduceTo(p Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.identities) == 0 {
		return errClosed
	}
	newest := t.identities[0]
	if newest.nodes == nil || newest.nodes[p.ID] {
		return nil
	}
	newest.nodes[p.ID] = true
	return newest.apply(t.peers)
}

// giveUp gives up identities whose time is over, or that are too many. All
// peers are the newest's then.
func (t *Tunnel) giveUp(now time.Time) {
	t.mu.Lock()
	var old []*identity
	for n := len(t.identities); n > 1; n-- {
		last := t.identities[n-1]
		if n <= maxIdentities && now.Before(last.until) {
			break
		}
		old = append(old, last)
		t.previous, t.identities = last.key, t.identities[:n-1]
	}
	if len(old) > 0 && len(t.identities) > 0 {
		oldest := t.identities[len(t.identities)-1]
		oldest.nodes = nil
		err := errors.Join(oldest.apply(t.peers), t.bind.SetKeys(t.privateKeys(), t.olderKeys()...))
		if err != nil {
			t.cfg.Log.Warn("give up an old key", "err", err)
		}
	}
	t.mu.Unlock()
	for _, id := range old {
		id.wireGuard.Close()
	}
}

// talking returns the peers in use.
func (t *Tunnel) talking() []Peer {
	stats := t.bind.Stats()
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Peer
	for _, s := range stats {
		if p, ok := t.peers[s.ID]; ok && s.InUse {
			all = append(all, p)
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
	if _, using, _ := t.stack.Using(p.Address); using == k.mark() {
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
