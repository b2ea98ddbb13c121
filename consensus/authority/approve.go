package authority

import (
	"crypto/ed25519"
	"slices"
)

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
