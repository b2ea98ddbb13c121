package authority

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// ParseLink reads a link, signed or not. It does not say whether it is valid.
func ParseLink(b []byte) (l Link, err error) {
	if len(b) > MaxLink {
		return l, refused("a link of %d bytes, want at most %d", len(b), MaxLink)
	}
	if err := canon.Decode(b, &l); err != nil {
		return l, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return l, nil
}

// SignFor adds signatures to a link of a cluster, for an operator who has only
// the link that somebody drafted, and not the chain. Who signs looks first at
// what it says.
func (l Link) SignFor(cluster [16]byte, keys ...ed25519.PrivateKey) []byte {
	return l.sign(cluster, keys...)
}

// CheckSignatures says whether every signature of a link is one. Whether those who
// signed are operators, the chain knows.
func (l Link) CheckSignatures(cluster [16]byte) error {
	_, err := l.signers(cluster)
	return err
}

// Bytes returns a link as it is, without signatures if it has none.
func (l Link) Bytes() []byte { return canon.Encode(l) }

// Approved returns nil if as many operators as must have signed a message that
// is no link: something that one node asks for.
func (c *Chain) Approved(message []byte, sigs []Signature) error {
	if c == nil {
		return refused("there is no authority chain yet")
	}
	var signers []Key
	for _, s := range sigs[:min(len(sigs), 2*MaxOperators)] {
		if slices.Contains(signers, s.Key) || !ed25519.Verify(s.Key[:], message, s.Sig[:]) {
			return refused("the signature of %s is wrong or there twice", s.Key.NodeID())
		}
		signers = append(signers, s.Key)
	}
	if n := count(signers, c.operators); n < c.threshold {
		return refused("%d of the operators have signed, want %d", n, c.threshold)
	}
	return nil
}
