package authority

// A Statement is what a node signs, with its own key and with the seed of its
// invite, to join a cluster by way of a member. The same bytes are written by
// mesh/invite; a test there holds the two together. In bytes:
//
//	"holdfast/join/1" 0 | cluster 16 | token 8 | joiner 32 | member 32 |
//	nonce of joiner 32 | nonce of member 32 | SHA-256 of the node record 32 |
//	length u8, role | length u8, site | length u8, name
type Statement struct {
	Cluster [16]byte
	Token   [8]byte
	Joiner  Key
	Member  Key
	Nonces  [2][32]byte
	Record  [32]byte
	Role    string
	Site    string
	Name    string
}

const statementDomain = "holdfast/join/1\x00"

// ParseStatement reads the bytes of a statement.
func ParseStatement(b []byte) (s Statement, err error) {
	rest := b
	ok := true
	fixed := func(to []byte) {
		if ok = ok && len(rest) >= len(to); ok {
			copy(to, rest)
			rest = rest[len(to):]
		}
	}
	text := func() string {
		var n [1]byte
		fixed(n[:])
		v := make([]byte, n[0])
		fixed(v)
		if ok = ok && plain(string(v), maxText); !ok {
			return ""
		}
		return string(v)
	}
	domain := make([]byte, len(statementDomain))
	for _, to := range [][]byte{domain, s.Cluster[:], s.Token[:], s.Joiner[:], s.Member[:], s.Nonces[0][:], s.Nonces[1][:], s.Record[:]} {
		fixed(to)
	}
	s.Role, s.Site, s.Name = text(), text(), text()
	if !ok || len(rest) != 0 || string(domain) != statementDomain {
		return Statement{}, refused("%d bytes are no join statement", len(b))
	}
	return s, nil
}
