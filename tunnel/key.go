package tunnel

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"github.com/holdfast-mesh/holdfast/tunnel/stack"
)

// A PrivateKey is a key of WireGuard (X25519). It is secret: nothing prints it.
type PrivateKey [32]byte

// NewPrivateKey returns a random key.
func NewPrivateKey() PrivateKey {
	var k PrivateKey
	rand.Read(k[:])
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// Public returns the key that peers know.
func (k PrivateKey) Public() PublicKey {
	p, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("tunnel: 32 bytes are no X25519 key: " + err.Error())
	}
	return PublicKey(p.PublicKey().Bytes())
}

func (k PrivateKey) String() string { return "(private key)" }

// GoString keeps the key from %#v.
func (k PrivateKey) GoString() string { return k.String() }

// A PublicKey is the public half.
type PublicKey [32]byte

// String returns the key as WireGuard's tools write it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

func (k PublicKey) hex() string { return hex.EncodeToString(k[:]) }

// mark tells the keys of one node apart. Two have the same once in 65,536
// times, which SetPeers and Rotate refuse.
func (k PublicKey) mark() stack.Mark {
	sum := sha256.Sum256(append([]byte("holdfast/key mark/v1 "), k[:]...))
	return stack.Mark(binary.BigEndian.Uint16(sum[:]))
}

func publicOf(k *ecdh.PrivateKey) PublicKey { return PublicKey(k.PublicKey().Bytes()) }
