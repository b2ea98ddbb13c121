// Package probe is how two nodes find out which path between them works: small
// sealed packets that share the mesh port with WireGuard.
//
// A ping asks, a pong answers and tells the asker its own address as it was
// seen, a call carries the addresses at which a node may be reached. Only the
// two nodes can make or read them: each direction has a key of its own, from
// the nodes' WireGuard keys. On the wire:
//
//	 1 byte   0x20: neither WireGuard (1 to 4) nor QUIC (0x40 set)
//	 1 byte   version, 1
//	 2 bytes  zero
//	 8 bytes  name of the key, a hash: who talks is not visible
//	 8 bytes  session, random for each start of the sender
//	 8 bytes  counter within the session
//	the rest  XChaCha20-Poly1305 of a message; nonce: session, counter, zeros;
//	          authenticated too: everything before
//
// Numbers are big endian.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	first   = 0x20
	version = 1

	keyAt     = 4
	sessionAt = 12
	counterAt = 20
	sealedAt  = 28

	// Overhead is what a sealed message is larger than the plain one.
	Overhead = sealedAt + 16

	// MaxCandidates is how many addresses a call carries.
	MaxCandidates = 24
	// MaxMessage bounds a plain message: a ping as large as a jumbo packet.
	MaxMessage = 9216
)

// Is reports whether a datagram at the mesh port is a probe.
func Is(b []byte) bool { return len(b) > 0 && b[0] == first }

// A Kind says what a message is.
type Kind byte

const (
	Ping Kind = 1
	Pong Kind = 2
	Call Kind = 3
)

// A Message is what is sealed in a probe.
type Message struct {
	Kind Kind

	// ID is a random number of a ping, and the same of its pong.
	ID uint64
	// Got and Lost count WireGuard packets of the receiver of this message
	// that arrived, and that did not, directly in a recent while.
	Got, Lost uint32
	// Seen is the address that the ping came from; only in a pong.
	Seen netip.AddrPort
	// Size is the length that a ping is padded to.
	Size int
	// Candidates are the addresses of the sender; only in a call.
	Candidates []netip.AddrPort
}

const (
	pingBytes    = 1 + 8 + 4 + 4
	addressBytes = 16 + 2
	pongBytes    = pingBytes + addressBytes
)

// Append appends the message to b.
func (m Message) Append(b []byte) []byte {
	b = append(b, byte(m.Kind))
	if m.Kind == Call {
		n := min(len(m.Candidates), MaxCandidates)
		b = append(b, byte(n))
		for _, a := range m.Candidates[:n] {
			b = appendAddress(b, a)
		}
		return b
	}
	b = binary.BigEndian.AppendUint64(b, m.ID)
	b = binary.BigEndian.AppendUint32(b, m.Got)
	b = binary.BigEndian.AppendUint32(b, m.Lost)
	if m.Kind == Pong {
		return appendAddress(b, m.Seen)
	}
	for n := min(m.Size, MaxMessage) - pingBytes; n > 0; n-- {
		b = append(b, 0)
	}
	return b
}

// Parse reads what Append wrote.
func Parse(b []byte) (Message, error) {
	if len(b) == 0 {
		return Message{}, errors.New("parse probe: it is empty")
	}
	m := Message{Kind: Kind(b[0])}
	switch {
	case m.Kind == Ping && len(b) >= pingBytes, m.Kind == Pong && len(b) == pongBytes:
		m.ID = binary.BigEndian.Uint64(b[1:])
		m.Got = binary.BigEndian.Uint32(b[9:])
		m.Lost = binary.BigEndian.Uint32(b[13:])
		if m.Kind == Pong {
			m.Seen = address(b[pingBytes:])
		} else {
			m.Size = len(b)
		}
		return m, nil
	case m.Kind == Call && len(b) >= 2 && int(b[1]) <= MaxCandidates && len(b) == 2+int(b[1])*addressBytes:
		for b = b[2:]; len(b) > 0; b = b[addressBytes:] {
			m.Candidates = append(m.Candidates, address(b))
		}
		return m, nil
	}
	return Message{}, fmt.Errorf("parse probe: kind %d with %d bytes", b[0], len(b))
}

// An address without zone is 16 bytes and a port; all zeros is none.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, make([]byte, addressBytes)...)
	}
	ip := a.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, ip[:]...), a.Port())
}

func address(b []byte) netip.AddrPort {
	ip := netip.AddrFrom16([16]byte(b)).Unmap()
	port := binary.BigEndian.Uint16(b[16:])
	if port == 0 || ip.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}
