package tunnel

import "time"

// Slept does what the tunnel does when it finds that the host slept.
func (t *Tunnel) Slept(d time.Duration) { t.slept(d) }

// EndOfGrace does what the tunnel does when the time of old keys is over.
func (t *Tunnel) EndOfGrace() { t.giveUp(time.Now().Add(2 * grace)) }

// Keys returns how many keys of ours are in use.
func (t *Tunnel) Keys() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.identities)
}

// Settled reports whether packets to a peer go by the newest keys.
func (t *Tunnel) Settled(node NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stack.Settled(t.peers[node].Address)
}
