package invite

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
)

// A Statement is what a machine says to join: who it is, whom it asks, with
// which token, and what it wants to be. It binds both sides and a fresh number
// of each, so it is of no use on another connection or at another time.
type Statement struct {
	Cluster     [16]byte
	Token       [8]byte
	Joiner      ed25519.PublicKey // of the machine
	Member      ed25519.PublicKey // of whom it asks
	JoinerNonce [32]byte
	MemberNonce [32]byte
	Record      []byte // the node record, of which the statement has the SHA-256
	Role        string
	Site        string
	Name        string
}

// statementDomain is what no other signed thing begins with.
const statementDomain = "holdfast/join/1\x00"

// maxName is how long a role, site or name may be, in bytes.
const maxName = 64

// Bytes returns what is signed. The ledger reads the same (package
// consensus/authority, where the layout is written down).
func (s Statement) Bytes() ([]byte, error) {
	if len(s.Joiner) != ed25519.PublicKeySize || len(s.Member) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a join statement between keys of %d and %d bytes", len(s.Joiner), len(s.Member))
	}
	record := sha256.Sum256(s.Record)
	b := []byte(statementDomain)
	for _, part := range [][]byte{s.Cluster[:], s.Token[:], s.Joiner, s.Member, s.JoinerNonce[:], s.MemberNonce[:], record[:]} {
		b = append(b, part...)
	}
	for _, text := range []string{s.Role, s.Site, s.Name} {
		if len(text) > maxName {
			return nil, fmt.Errorf("a role, site or name of %d bytes, want at most %d", len(text), maxName)
		}
		b = append(append(b, byte(len(text))), text...)
	}
	return b, nil
}

// Sign returns the bytes of the statement and the two signatures of it: with
// the seed of the token, which shows that the machine was invited, and with
// the machine's own key.
func (s Statement) Sign(t Token, machine ed25519.PrivateKey) (statement []byte, seed, node [64]byte, err error) {
	statement, err = s.Bytes()
	if err != nil {
		return nil, seed, node, err
	}
	return statement, [64]byte(ed25519.Sign(t.Key(), statement)), [64]byte(ed25519.Sign(machine, statement)), nil
}
