package bind

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

// Types of WireGuard's messages.
const (
	initiation = 1
	response   = 2
	cookie     = 3
	transport  = 4
)

// isWireGuard reports whether a datagram may be a message of WireGuard.
func isWireGuard(b []byte) bool {
	return len(b) >= 32 && b[0] >= initiation && b[0] <= transport && b[1]|b[2]|b[3] == 0
}

// isQUIC reports whether a datagram may be QUIC version 1 or 2, whose senders
// do not grease the fixed bit.
func isQUIC(b []byte) bool { return len(b) > 0 && b[0]&0x40 != 0 }

// isData reports whether a message carries a packet, so is no keepalive.
func isData(b []byte) bool { return len(b) > 32 && b[0] == transport }

// A receiver reads the socket, for all identities. One of them has it at a time.
type receiver struct {
	bind    *Bind
	socket  Socket
	buf     []byte // what was received last
	scratch []byte // a probe in plain

	rest    []byte // of buf, not given out yet
	segment int
	from    netip.AddrPort
	peer    *Peer // that from was proven to be, or nil
	now     time.Duration

	last struct { // the session of the last message
		peer   *Peer
		number uint32
		keyed  *keyed
	}
}

// receive returns messages of WireGuard for id, hands others on, and handles all
// else itself. After a Wake it returns [udp.ErrWoken].
func (r *receiver) receive(id *Identity, bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if n := r.takeRelayed(id, bufs, sizes, eps); n > 0 {
		return n, nil
	}
	if len(r.rest) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.give(id, bufs, sizes, eps), nil
}

// fill waits for something at the socket; after a Wake there is nothing.
func (r *receiver) fill() error {
	b := r.bind
	b.sleeping.Store(true)
	defer b.sleeping.Store(false)
	if len(b.relayed) > 0 {
		return nil
	}
	n, segment, from, err := r.socket.Receive(r.buf)
	switch {
	case errors.Is(err, udp.ErrWoken):
		return err
	case errors.Is(err, net.ErrClosed) || b.closed.Load():
		return net.ErrClosed
	case err != nil:
		return err
	}
	r.rest, r.segment, r.from, r.now = r.buf[:n], max(segment, 1), from, b.now()
	r.peer = (*b.admitted.Load())[from]
	return nil
}

// give moves messages of WireGuard to bufs until either side is used up.
func (r *receiver) give(id *Identity, bufs [][]byte, sizes []int, eps []conn.Endpoint) int {
	n, bytes := 0, 0
	for n < len(bufs) && len(r.rest) > 0 {
		m := r.rest[:min(r.segment, len(r.rest))]
		r.rest = r.rest[len(m):]
		if !isWireGuard(m) {
			r.other(m)
			continue
		}
		if r.peer == nil {
			r.bind.dropped.stranger.Add(1)
			continue
		}
		bytes += len(m)
		switch to := r.received(r.peer, m, r.now, true); to {
		case nil:
		case id:
			sizes[n] = copy(bufs[n], m)
			eps[n] = r.peer
			n++
		default:
			to.pass(r.peer, m)
		}
	}
	if bytes > 0 && r.peer != nil {
		r.peer.receivedBytes.Add(uint64(bytes))
		r.peer.meter.publish()
	}
	return n
}

// other handles what is not WireGuard's.
func (r *receiver) other(m []byte) {
	switch b := r.bind; {
	case probe.Is(m):
		b.handleProbe(m, r.scratch, r.from, nil)
		r.peer = (*b.admitted.Load())[r.from]
	case isQUIC(m):
		b.quic.deliver(m, r.from)
	default:
		b.dropped.unknown.Add(1)
	}
}

// received notes a message from p, and returns who may have it, or nil.
func (r *receiver) received(p *Peer, m []byte, now time.Duration, direct bool) *Identity {
	b := r.bind
	p.came(now, direct)
	switch m[0] {
	case initiation:
		p.touch(b, now)
		id := b.identityFor(p, m, nil)
		if id == nil || !b.initiated(p, id, m, now) {
			return nil
		}
		return id
	case response:
		p.touch(b, now)
		k := p.session(binary.LittleEndian.Uint32(m[8:]), false)
		if k != nil {
			k.handshake.confirmed()
		}
		return b.identityFor(p, m, k)
	case cookie:
		p.touch(b, now)
		return b.identityFor(p, m, p.session(binary.LittleEndian.Uint32(m[4:]), false))
	}
	number := binary.LittleEndian.Uint32(m[4:])
	if number != r.last.number || p != r.last.peer {
		r.last.peer, r.last.number, r.last.keyed = p, number, p.session(number, true)
	}
	k := r.last.keyed
	p.meter.note(number, binary.LittleEndian.Uint64(m[8:]), direct)
	if isData(m) {
		p.touch(b, now)
	} else if k != nil {
		k.handshake.confirmed()
	}
	return b.identityFor(p, m, k)
}
