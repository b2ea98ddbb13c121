package authority

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/big"
)

// A Key is a public key of Ed25519. That of a node is the node's name.
type Key [ed25519.PublicKeySize]byte

// PublicKey returns the public half of k.
func PublicKey(k ed25519.PrivateKey) Key { return Key(k.Public().(ed25519.PublicKey)) }

// peerID is what stands before an Ed25519 key in the bytes of a libp2p peer ID:
// an identity multihash of 36 bytes: a protobuf of key type 1 and 32 bytes.
var peerID = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// NodeID returns the key as the text of a libp2p peer ID, "12D3KooW…".
func (k Key) NodeID() string {
	n := new(big.Int).SetBytes(append(bytes.Clone(peerID), k[:]...))
	text, digit := []byte{}, new(big.Int)
	for n.Sign() > 0 {
		n.DivMod(n, big.NewInt(58), digit)
		text = append(text, base58[digit.Int64()])
	}
	text = append(text, '1') // for the zero byte in front
	for i, j := 0, len(text)-1; i < j; i, j = i+1, j-1 {
		text[i], text[j] = text[j], text[i]
	}
	return string(text)
}

// ParseNodeID reads what [Key.NodeID] wrote, and nothing else.
func ParseNodeID(s string) (k Key, err error) {
	n := new(big.Int)
	if len(s) == 52 && s[0] == '1' {
		for _, c := range []byte(s[1:]) {
			n.Mul(n, big.NewInt(58)).Add(n, big.NewInt(int64(bytes.IndexByte([]byte(base58), c))))
		}
	}
	b := n.Bytes()
	if len(b) == len(peerID)-1+len(k) && bytes.Equal(b[:len(peerID)-1], peerID[1:]) {
		k = Key(b[len(peerID)-1:])
	}
	if k == (Key{}) || k.NodeID() != s {
		return Key{}, fmt.Errorf("%.60q is no node ID, want one like 12D3KooW…", s)
	}
	return k, nil
}

func (k Key) String() string { return k.NodeID() }
