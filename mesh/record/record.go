// Package record is what a node says of itself: its keys in the tunnel, where
// it can be reached, and which version it runs.
//
// A record is signed by the node with the key that is its name, so it can be
// had from anybody. Every record has a sequence number; a [Store] keeps the
// newest of each node and refuses older ones, so an old address or key that
// somebody plays back changes nothing.
//
// Being in a record makes nobody a member: that says the authority chain.
package record

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

// A Key is the Ed25519 key of a node, which is also its name.
type Key [ed25519.PublicKeySize]byte

// KeyOf is the name of the node that has a private key.
func KeyOf(k ed25519.PrivateKey) Key { return Key(k.Public().(ed25519.PublicKey)) }

// NodeID is the key as the text of a libp2p peer ID, "12D3KooW…".
func (k Key) NodeID() string {
	public, err := crypto.UnmarshalEd25519PublicKey(k[:])
	if err != nil {
		panic("record: 32 bytes are no Ed25519 key: " + err.Error())
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		panic("record: a key without a peer ID: " + err.Error())
	}
	return id.String()
}

func (k Key) String() string { return k.NodeID() }

// ParseNodeID reads what [Key.NodeID] wrote, and nothing else.
func ParseNodeID(s string) (k Key, err error) {
	bad := fmt.Errorf("%.60q is no node ID, want one like 12D3KooW…", s)
	id, err := peer.Decode(s)
	if err != nil {
		return k, bad
	}
	public, err := id.ExtractPublicKey()
	if err != nil || public.Type() != crypto.Ed25519 {
		return k, bad
	}
	raw, err := public.Raw()
	if err != nil || len(raw) != len(k) || Key(raw).NodeID() != s {
		return k, bad
	}
	return Key(raw), nil
}

// A Record is one statement of a node. Numbers of fields are never used again.
type Record struct {
	Cluster   [16]byte   `cbor:"1,keyasint"`
	Node      Key        `cbor:"2,keyasint"`
	Seq       uint64     `cbor:"3,keyasint"` // a newer record has a larger one
	WireGuard [][32]byte `cbor:"4,keyasint"` // public keys, newest first; two while the node changes its key
	Addrs     []Addr     `cbor:"5,keyasint,omitempty"`
	Version   string     `cbor:"6,keyasint"`           // of the program
	At        int64      `cbor:"7,keyasint"`           // Unix seconds, by the clock of the node
	Relay     bool       `cbor:"8,keyasint,omitempty"` // it can be reached by all and relays for members
	MTU       uint16     `cbor:"9,keyasint,omitempty"` // largest packet in the tunnel; zero: the default
}

// An Addr is a multiaddress, and how the node knows it.
type Addr struct {
	Text   string `cbor:"1,keyasint"`
	Origin Origin `cbor:"2,keyasint"`
}

// An Origin says where an address comes from.
type Origin uint8

// The origins, the surest first.
const (
	Advertised Origin = iota + 1 // its operator says so
	Interface                    // of an interface of the host
	Mapped                       // the router gave it
	Observed                     // a member sees the node there
	origins
)

func (o Origin) String() string {
	return [...]string{"unknown", "advertised", "interface", "mapped", "observed"}[o%origins]
}

// Limits of a record. The ledger takes no larger one.
const (
	MaxBytes = 4 << 10
	MaxAddrs = 16
	maxText  = 128 // bytes of an address
	maxWords = 64  // bytes of a version
)

// domain stands before a record where it is signed; the ledger has the same.
const domain = "holdfast/node-record/1\x00"

// ErrInvalid is what every record is that no node can have signed.
var ErrInvalid = errors.New("not a valid node record")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// A Signed record is what is stored and sent: the bytes, and the signature of
// the node over them.
type Signed struct {
	Body []byte   `cbor:"1,keyasint"`
	Sig  [64]byte `cbor:"2,keyasint"`
}

// Sign returns r as the node with the key says it. It fills in Node.
func (r Record) Sign(key ed25519.PrivateKey) (Signed, error) {
	r.Node = KeyOf(key)
	if err := r.check(); err != nil {
		return Signed{}, err
	}
	body := frame.Encode(r)
	if len(body) > MaxBytes {
		return Signed{}, invalid("%d bytes, want at most %d", len(body), MaxBytes)
	}
	return Signed{body, [64]byte(ed25519.Sign(key, append([]byte(domain), body...)))}, nil
}

// Open reads a record and checks that the node it is of has signed it.
func (s Signed) Open() (r Record, err error) {
	if len(s.Body) > MaxBytes {
		return r, invalid("%d bytes, want at most %d", len(s.Body), MaxBytes)
	}
	if err := frame.Decode(s.Body, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	if !ed25519.Verify(r.Node[:], append([]byte(domain), s.Body...), s.Sig[:]) {
		return Record{}, invalid("it is not signed by %s", r.Node)
	}
	return r, nil
}

func (r Record) check() error {
	switch {
	case r.Cluster == [16]byte{} || r.Node == Key{} || r.Seq == 0:
		return invalid("no cluster, node or number")
	case len(r.WireGuard) < 1 || len(r.WireGuard) > 2 || slices.Contains(r.WireGuard, [32]byte{}):
		return invalid("%d keys of the tunnel, want 1 or 2", len(r.WireGuard))
	case len(r.WireGuard) == 2 && r.WireGuard[0] == r.WireGuard[1]:
		return invalid("the same key of the tunnel twice")
	case slices.ContainsFunc(r.WireGuard, func(k [32]byte) bool { return !usable(k) }):
		return invalid("a key of the tunnel that no private key has")
	case len(r.Addrs) > MaxAddrs || len(r.Version) > maxWords || r.MTU != 0 && r.MTU < 1280:
		return invalid("%d addresses, a version of %d bytes, an MTU of %d", len(r.Addrs), len(r.Version), r.MTU)
	}
	for _, a := range r.Addrs {
		if a.Origin < Advertised || a.Origin >= origins || len(a.Text) > maxText {
			return invalid("an address of %d bytes and the origin %d", len(a.Text), a.Origin)
		}
		if m, err := multiaddr.NewMultiaddr(a.Text); err != nil || m.String() != a.Text {
			return invalid("%.128q is no multiaddress", a.Text)
		}
	}
	return nil
}

// usable tells whether a key can be that of a node: X25519 gives every pair of a private
// key and one of the points of low order the same secret, which Go refuses (RFC 7748
// section 6.1), and two that differ in the top bit alone are one (section 5).
func usable(k [32]byte) bool {
	key, err := ecdh.X25519().NewPublicKey(k[:])
	if err != nil || k[31]&0x80 != 0 {
		return false
	}
	_, err = anyKey.ECDH(key)
	return err == nil
}

var anyKey = func() *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic("record: " + err.Error())
	}
	return k
}()

// Texts are the addresses without their origins.
func (r Record) Texts() []string {
	texts := make([]string, len(r.Addrs))
	for i, a := range r.Addrs {
		texts[i] = a.Text
	}
	return texts
}

// Endpoints are the addresses at which the tunnel can be reached: those with
// an IP address and a UDP port. The port carries QUIC and the tunnel.
func (r Record) Endpoints() []netip.AddrPort {
	var ends []netip.AddrPort
	for _, a := range r.Addrs {
		m, err := multiaddr.NewMultiaddr(a.Text)
		if err != nil || len(m) < 2 || m[1].Code() != multiaddr.P_UDP {
			continue
		}
		if _, relayed := find(m, multiaddr.P_CIRCUIT); relayed {
			continue
		}
		end, err := netip.ParseAddrPort(netipText(m))
		if err == nil && !slices.Contains(ends, end) {
			ends = append(ends, end)
		}
	}
	return ends
}

func find(m multiaddr.Multiaddr, code int) (string, bool) {
	v, err := m.ValueForProtocol(code)
	return v, err == nil
}

// netipText is the IP address and port of m as package netip reads it, or "".
func netipText(m multiaddr.Multiaddr) string {
	port := m[1].Value()
	switch m[0].Code() {
	case multiaddr.P_IP4:
		return m[0].Value() + ":" + port
	case multiaddr.P_IP6:
		return "[" + m[0].Value() + "]:" + port
	}
	return ""
}

// Prefix is the /64 of a cluster in the tunnel, a unique local address: 40 bits
// of its ID, and the subnet zero.
func Prefix(cluster [16]byte) netip.Prefix {
	sum := sha256.Sum256(append([]byte("holdfast/ula"), cluster[:]...))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// Address is where a node is in the tunnel: nobody gives addresses away, and
// it stays the same when keys of the tunnel change.
func Address(cluster [16]byte, node Key) netip.Addr {
	a := Prefix(cluster).Addr().As16()
	sum := sha256.Sum256(node[:])
	copy(a[8:], sum[:8])
	return netip.AddrFrom16(a)
}
