package tunnel

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/stack"
)

// A Path says how packets go to a peer.
type Path string

const (
	PathNone   Path = "none"   // they do not: no address answers and no stream is open
	PathDirect Path = "direct" // by UDP
	PathBoth   Path = "both"   // by UDP, which may have died, and over a stream
	PathRelay  Path = "relay"  // over a stream
)

// A Limit says what bounds the rate to a peer.
type Limit string

const (
	LimitNone   Limit = ""       // the peer is not in use
	LimitPath   Limit = "path"   // there is none
	LimitRelay  Limit = "relay"  // packets go over a stream: a direct path would be faster
	LimitLoss   Limit = "loss"   // each stream obeys Mathis' law: use several
	LimitCPU    Limit = "cpu"    // WireGuard does not take packets as fast as TCP has them
	LimitWindow Limit = "window" // TCP's largest window, once each round trip
	LimitRate   Limit = "rate"   // the path takes no more, or the program at the other end
	LimitSender Limit = "sender" // the program does not send faster
)

// lossy is the share of lost packets from which loss bounds a stream: at 40 ms
// it is then 12 Mbit/s.
const lossy = 0.001

// PeerStats is what is known of one peer.
type PeerStats struct {
	ID            NodeID
	Path          Path
	Endpoint      netip.AddrPort // of the direct path
	RTT           time.Duration  // of the path, zero if not known
	LossOut       float64        // share of the direct packets of late to the peer that were lost
	LossIn        float64        // the same from it
	Handshakes    uint64         // of WireGuard: sessions that the peer used
	LastHandshake time.Time      // of WireGuard, zero: never
	Limit         Limit

	Sent, Received           uint64 // bytes by UDP
	RelaySent, RelayReceived uint64 // bytes over streams
	RelayDropped             uint64 // packets that a stream had no room for, or that had no path
	SendErrors               uint64 // of the mesh port
}

// Stats returns what is known of every peer, in the order of their IDs.
func (t *Tunnel) Stats() []PeerStats {
	handshakes := t.handshakes()
	busy := t.waits.of(t.stack.Waits(), time.Now()) > 10
	t.mu.Lock()
	latest, addresses := map[NodeID]time.Time{}, map[NodeID]netip.Addr{}
	for _, p := range t.peers {
		addresses[p.ID] = p.Address
		for _, k := range p.Keys {
			if h := handshakes[k]; h.After(latest[p.ID]) {
				latest[p.ID] = h
			}
		}
	}
	t.mu.Unlock()
	backlogs := t.stack.Backlogs()
	var all []PeerStats
	for _, s := range t.bind.Stats() {
		p := PeerStats{
			ID: s.ID, Endpoint: s.Direct, RTT: s.RTT, LossOut: s.LossOut, LossIn: s.LossIn,
			Sent: s.Sent, Received: s.Received, RelaySent: s.RelaySent, RelayReceived: s.RelayReceived,
			RelayDropped: s.RelayDropped, SendErrors: s.SendErrors,
			Handshakes: s.Handshakes, LastHandshake: latest[s.ID],
		}
		p.Path = pathOf(s.Direct.IsValid(), s.Relay)
		p.Limit = limitOf(p, s.InUse, busy, backlogs[addresses[s.ID]])
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b PeerStats) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func pathOf(direct, relay bool) Path {
	switch {
	case direct && relay:
		return PathBoth
	case direct:
		return PathDirect
	case relay:
		return PathRelay
	}
	return PathNone
}

// limitOf says what bounds the rate to a peer: the program, unless it waits.
func limitOf(p PeerStats, used, busy bool, b stack.Backlog) Limit {
	switch {
	case !used:
		return LimitNone
	case p.Path == PathNone:
		return LimitPath
	case p.Path == PathRelay:
		return LimitRelay
	case !b.Full:
		return LimitSender
	case p.LossOut > lossy:
		return LimitLoss
	case busy:
		return LimitCPU
	case b.Window:
		return LimitWindow
	}
	return LimitRate
}

// Dropped counts datagrams that came to the mesh port in vain: packets of
// WireGuard from addresses that no peer has proven, probes that no peer made,
// and what is neither.
func (t *Tunnel) Dropped() (strangers, forged, unknown uint64) { return t.bind.Dropped() }

// handshakes asks WireGuard for the time of the last handshake with each key.
func (t *Tunnel) handshakes() map[PublicKey]time.Time {
	t.mu.Lock()
	identities := slices.Clone(t.identities)
	t.mu.Unlock()
	all := map[PublicKey]time.Time{}
	for _, id := range identities {
		text, err := id.wireGuard.IpcGet()
		if err != nil {
			continue
		}
		var key PublicKey
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), "=")
			switch name {
			case "public_key":
				hex.Decode(key[:], []byte(value))
			case "last_handshake_time_sec":
				s, _ := strconv.ParseInt(value, 10, 64)
				if h := time.Unix(s, 0); s > 0 && h.After(all[key]) {
					all[key] = h
				}
			}
		}
	}
	return all
}

// A rate turns a counter into events a second, since it was asked last.
type rate struct {
	mu    sync.Mutex
	count uint64
	at    time.Time
}

func (r *rate) of(count uint64, now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := now.Sub(r.at).Seconds()
	per := float64(count-r.count) / passed
	r.count, r.at = count, now
	return per
}
