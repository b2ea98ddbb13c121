package bind

import (
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

// identityQueue bounds the messages that wait for an identity which does not
// read the socket itself.
const identityQueue = 1024

// An Identity is one WireGuard key of ours: the conn.Bind of the WireGuard that
// has it. There are several while the key changes; all share the mesh port.
// The newest reads the socket, and hands the others what is for them.
type Identity struct {
	bind  *Bind
	key   *ecdh.PrivateKey
	mac   device.CookieChecker
	queue chan relayed  // without peer: look around
	done  chan struct{} // closed by Close

	reader *receiver // while it reads the socket; its goroutine's alone
}

// NewIdentity returns the conn.Bind for a key, which is not open yet. The key
// must be one of [Bind.SetKeys] when peers are configured with it.
func (b *Bind) NewIdentity(key *ecdh.PrivateKey) *Identity {
	id := &Identity{bind: b, key: key, queue: make(chan relayed, identityQueue)}
	id.mac.Init(device.NoisePublicKey(key.PublicKey().Bytes()))
	return id
}

// EndpointOf returns the name of the endpoint of a node's key, for WireGuard.
func EndpointOf(node NodeID, key [32]byte) string { return fmt.Sprintf("%s/%x", node, key) }

// ParseEndpoint returns the endpoint that s names.
func (id *Identity) ParseEndpoint(s string) (conn.Endpoint, error) {
	i := strings.LastIndexByte(s, '/')
	if i >= 0 {
		if p := id.bind.peers.Load().byID[NodeID(s[:i])]; p != nil {
			for _, k := range *p.pairs.Load() {
				if k.ours.Equal(id.key) && EndpointOf(p.id, k.theirs) == s {
					return k, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("tunnel: no peer with key %q", s)
}

// Open opens the mesh port, or joins those who have it open; the number asked
// for is in the Config's Listen.
func (id *Identity) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	b := id.bind
	b.opening.Lock()
	defer b.opening.Unlock()
	open := *b.identities.Load()
	if slices.Contains(open, id) {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if len(open) == 0 {
		s, err := b.cfg.Listen()
		if err != nil {
			return nil, 0, err
		}
		b.closed.Store(false)
		b.socket.Store(&s)
		select {
		case <-b.reading: // of the socket before
		default:
		}
		b.reading <- &receiver{bind: b, socket: s, buf: make([]byte, 1<<16), scratch: make([]byte, probe.ScratchBytes)}
	}
	id.done = make(chan struct{})
	b.setIdentities(append([]*Identity{id}, open...))
	return []conn.ReceiveFunc{id.receive}, b.LocalAddr().Port(), nil
}

// Close leaves the mesh port, and closes it if nobody else has it open.
func (id *Identity) Close() error {
	b := id.bind
	b.opening.Lock()
	defer b.opening.Unlock()
	open := *b.identities.Load()
	if !slices.Contains(open, id) {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(open), func(o *Identity) bool { return o == id })
	close(id.done)
	b.setIdentities(left)
	if len(left) > 0 {
		return nil
	}
	b.closed.Store(true)
	s := b.socket.Swap(nil)
	err := (*s).Close()
	select {
	case <-b.reading: // of a socket that is closed
	default:
	}
	return err
}

// setIdentities makes all those who have the mesh port open, newest first, and
// has them look who reads the socket. b.opening is held.
func (b *Bind) setIdentities(all []*Identity) {
	b.identities.Store(&all)
	for _, id := range all {
		select {
		case id.queue <- relayed{}:
		default:
		}
	}
	if s := b.socket.Load(); s != nil {
		(*s).Wake()
	}
}

// SetMark is of no use to us.
func (id *Identity) SetMark(uint32) error { return nil }

// BatchSize is how many packets WireGuard may move at a time.
func (id *Identity) BatchSize() int { return id.bind.cfg.Batch }

// Send sends packets of WireGuard to a peer by the path of the moment. What
// cannot be sent is lost, as on any network; the peer's counters tell.
func (id *Identity) Send(bufs [][]byte, ep conn.Endpoint) error {
	b := id.bind
	if b.closed.Load() {
		return net.ErrClosed
	}
	switch e := ep.(type) {
	case *keyed:
		b.sending(e, bufs)
		b.send(e.peer, e, bufs)
	case *Peer: // a cookie: whose key asked for it is not known
		b.send(e, nil, bufs)
	default:
		return conn.ErrWrongEndpointType
	}
	return nil
}

// receive is a conn.ReceiveFunc: it returns messages of WireGuard that are for
// this identity.
func (id *Identity) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	b := id.bind
	for {
		if n := id.drain(bufs, sizes, eps); n > 0 {
			return n, nil
		}
		var reading chan *receiver
		switch {
		case id.isClosed():
			id.yield()
			return 0, net.ErrClosed
		case !id.isNewest():
			id.yield()
		case id.reader == nil:
			reading = b.reading
		default:
			n, err := id.reader.receive(id, bufs, sizes, eps)
			if n > 0 || err != nil && !errors.Is(err, udp.ErrWoken) {
				return n, err
			}
			continue
		}
		select {
		case id.reader = <-reading:
		case m := <-id.queue:
			if id.take(m, 0, bufs, sizes, eps) {
				return 1, nil
			}
		case <-id.done:
		}
	}
}

// yield has somebody else read the socket.
func (id *Identity) yield() {
	if id.reader != nil && !id.bind.closed.Load() {
		id.bind.reading <- id.reader
	}
	id.reader = nil
}

func (id *Identity) isClosed() bool {
	select {
	case <-id.done:
		return true
	default:
		return false
	}
}

func (id *Identity) isNewest() bool {
	all := *id.bind.identities.Load()
	return len(all) > 0 && all[0] == id
}

// drain gives out what others received for us.
func (id *Identity) drain(bufs [][]byte, sizes []int, eps []conn.Endpoint) int {
	for n := 0; n < len(bufs); {
		select {
		case m := <-id.queue:
			if id.take(m, n, bufs, sizes, eps) {
				n++
			}
		default:
			return n
		}
	}
	return len(bufs)
}

func (id *Identity) take(m relayed, i int, bufs [][]byte, sizes []int, eps []conn.Endpoint) bool {
	if m.peer == nil {
		return false
	}
	sizes[i] = copy(bufs[i], *m.data)
	eps[i] = m.peer
	id.bind.packets.put(m.data)
	return true
}

// pass hands a message to an identity that does not read the socket.
func (id *Identity) pass(p *Peer, m []byte) {
	data := id.bind.packets.get(m)
	select {
	case id.queue <- relayed{p, data}:
	case <-id.done:
		id.bind.packets.put(data)
	}
}

// identityFor returns whose a message from p is. Only one that is not the
// only one has to look: at the sum that says which key an initiation is for,
// at the session of everything else. What is nobody's is for the oldest, which
// drops it.
func (b *Bind) identityFor(p *Peer, m []byte, k *keyed) *Identity {
	all := *b.identities.Load()
	if len(all) == 0 {
		return nil
	}
	oldest := all[len(all)-1]
	for _, id := range all[:len(all)-1] {
		if m[0] == initiation && id.mac.CheckMAC1(m) || k != nil && k.ours.Equal(id.key) {
			return id
		}
	}
	return oldest
}

// sessions are the numbers that we gave to sessions of late; by them a peer
// says which session a message belongs to.
const sessions = 64

// number notes the number of a session that we offer or accept.
func (k *keyed) number(m []byte) {
	i := k.next.Add(1) % sessions
	k.numbers[i].Store(uint64(binary.LittleEndian.Uint32(m[4:])) | offered)
}

// A session that was offered has this bit set, one that is in use the other.
const offered, inSession = 1 << 32, 1 << 33

// has reports whether we gave out the number, and whether its session was not
// in use before.
func (k *keyed) has(number uint32, use bool) (ok, first bool) {
	for i := range k.numbers {
		v := k.numbers[i].Load()
		if uint32(v) != number || v&offered == 0 {
			continue
		}
		first = use && v&inSession == 0 && k.numbers[i].CompareAndSwap(v, v|inSession)
		return true, first
	}
	return false, false
}

// session returns the keys that a message from p belongs to, nil if none are
// known.
func (p *Peer) session(number uint32, use bool) *keyed {
	for _, k := range *p.pairs.Load() {
		if ok, first := k.has(number, use); ok {
			if first {
				p.handshakes.Add(1)
			}
			return k
		}
	}
	return nil
}
