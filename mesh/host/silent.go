package host

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	answerTime = 3 * time.Second  // for who is asked whether it is there
	doubtTime  = 20 * time.Second // that a relay is not asked for new ways, unless it answers
)

// A packetStream carries packets of the tunnel, which knows sooner than QUIC does (30 s of
// silence) or TCP (minutes) that nothing comes any more.
type packetStream struct {
	network.Stream
	h *Host
}

// Silent says that what was sent over the stream is not answered. A connection through a
// relay ends, so that another relay is tried at once; whoever is at the other end of the
// wire, the relay or the node itself, is asked, and its connections end if it is silent.
func (s packetStream) Silent() { s.h.silent(s.Conn()) }

// Silent is that of [Host.Carry], for a stream that another node opened.
func (in Inbound) Silent() {
	if in.silent != nil {
		in.silent()
	}
}

func (h *Host) silent(c network.Conn) {
	id := c.RemotePeer()
	if relayed(c) {
		if via, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_P2P); err == nil {
			if r, err := peer.Decode(via); err == nil {
				id = r
			}
		}
		c.Close()
	}
	h.mu.Lock()
	if k := h.peers[id]; k != nil && !k.asked && time.Now().After(k.doubted.Add(answerTime)) {
		k.asked, k.doubted = true, time.Now()
	}
	h.mu.Unlock()
	h.nudge()
}

// askSilent asks the nodes that were silent whether they are there.
func (h *Host) askSilent(ctx context.Context, p host.Host, work *sync.WaitGroup) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, k := range h.peers {
		if !k.asked {
			continue
		}
		k.asked = false
		before := slices.DeleteFunc(p.Network().ConnsToPeer(id), relayed)
		work.Go(func() {
			ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "silent"), answerTime)
			defer cancel()
			if r, ok := <-ping.Ping(ctx, p, id); ok && r.Error == nil {
				h.mu.Lock()
				defer h.mu.Unlock()
				k.doubted = time.Time{}
				return
			}
			h.cfg.Log.Info("a node does not answer; its connections are closed", "node", id)
			for _, c := range before {
				c.Close()
			}
		})
	}
}
