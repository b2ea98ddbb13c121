package authority

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// apply makes c what it is after l. was is the chain before, whose operators
// are the ones that count.
func (c *Chain) apply(was *Chain, l Link) error {
	if l.Kind == Genesis {
		return c.found(l)
	}
	if l.Kind == Admit {
		return c.admit(l)
	}
	if l.Kind == Enact {
		return c.enact(l)
	}
	signers, err := l.signers(c.cluster)
	if err != nil {
		return err
	}
	n := count(signers, was.operators)
	recovery := c.recovery != Key{} && slices.Contains(signers, c.recovery)
	if l.Kind == Veto {
		return c.veto(l, n > 0 || recovery)
	}
	byRecoveryKey := l.Kind == Recover && recovery
	if n < was.threshold && !byRecoveryKey {
		return refused("%d of the operators have signed, want %d", n, was.threshold)
	}
	switch l.Kind {
	case AddNode:
		return with(l, c.addNode)
	case RemoveNode:
		return with(l, func(r Removal) error {
			n, is := c.Node(r.Key)
			if !is {
				return refused("there is no node %s to remove", r.Key.NodeID())
			}
			n.Removed, n.Votes = true, false
			c.nodes[r.Key] = n
			return nil
		})
	case Operators:
		return with(l, func(o OperatorsBody) error {
			return c.setOperators(o, signers)
		})
	case NewOperators:
		return with(l, func(o OperatorsBody) error { return c.newOperators(l.Seq, o, signers, recovery) })
	case AddGrant:
		return with(l, c.addGrant)
	case DropGrant:
		return with(l, func(d Drop) error {
			if _, is := c.grants[d.Key]; !is {
				return refused("there is no such grant")
			}
			delete(c.grants, d.Key)
			return nil
		})
	case Recover:
		return with(l, func(r Recovery) error {
			if _, is := c.Node(r.Base); !is || r.Incarnation <= c.incarnation || r.Incarnation > MaxIncarnation || !plain(r.Reason, 500) {
				return refused("a recovery of incarnation %d to %d by %s", c.incarnation, r.Incarnation, r.Base.NodeID())
			}
			c.incarnation, c.base = r.Incarnation, r.Base
			return nil
		})
	}
	return refused("a link of the kind %d", l.Kind)
}

// with decodes the body of a link.
func with[T any](l Link, do func(T) error) error {
	var body T
	if err := canon.Decode(l.Body, &body); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return do(body)
}

func (c *Chain) found(l Link) error {
	return with(l, func(g GenesisBody) error {
		if err := checkOperators(g.Operators, g.Threshold); err != nil {
			return err
		}
		signers, err := l.signers(g.Cluster)
		if err != nil {
			return err
		}
		if g.Cluster == [16]byte{} || count(signers, g.Operators) < len(g.Operators) {
			return refused("not every operator has signed the genesis")
		}
		c.cluster, c.operators, c.threshold, c.recovery, c.incarnation = g.Cluster, g.Operators, g.Threshold, g.Recovery, 1
		return nil
	})
}

func checkOperators(keys []Key, threshold int) error {
	seen := map[Key]bool{}
	for _, k := range keys {
		if k == (Key{}) || seen[k] {
			return refused("an operator is there twice, or has no key")
		}
		seen[k] = true
	}
	if len(keys) == 0 || len(keys) > MaxOperators || threshold < 1 || threshold > len(keys) {
		return refused("%d of %d operators", threshold, len(keys))
	}
	return nil
}

func (c *Chain) addNode(n Node) error {
	if _, known := roles[n.Role]; !known || n.Removed || !plain(n.Site, maxText) || !plain(n.Name, maxText) || n.Name == "" || n.Site == "" {
		return refused("node %q at site %q in the role %q", n.Name, n.Site, n.Role)
	}
	if c.nodes[n.Key].Removed {
		return refused("node %s was removed; it joins again with a new key", n.Key.NodeID())
	}
	live, taken := 0, false // the order of a map must not decide what is said
	for _, other := range c.nodes {
		if other.Key != n.Key && !other.Removed {
			live++
			taken = taken || other.Name == n.Name
		}
	}
	if taken {
		return refused("there is a node %q already", n.Name)
	}
	if live >= MaxNodes {
		return refused("there are %d nodes already", live)
	}
	c.nodes[n.Key] = n
	return nil
}

func (c *Chain) addGrant(g Grant) error {
	_, known := roles[g.Role]
	_, taken := c.grants[g.Key]
	if !known || taken || g.Key == (Key{}) || g.Uses < 1 || g.Uses > 20 || !plain(g.Site, maxText) {
		return refused("a grant of the role %q, %d times", g.Role, g.Uses)
	}
	for _, other := range c.grants {
		if other.Token == g.Token {
			return refused("there is a grant for the token %x already", g.Token)
		}
	}
	c.grants[g.Key] = g
	return nil
}

// admit adds the node of a join statement that the key of a grant has signed.
func (c *Chain) admit(l Link) error {
	if len(l.Sigs) != 0 {
		return refused("an admission has its signatures inside")
	}
	return with(l, func(a Admission) error {
		s, err := ParseStatement(a.Statement)
		if err != nil {
			return err
		}
		var g Grant
		for _, other := range c.grants {
			if other.Token == s.Token {
				g = other
			}
		}
		switch {
		case g.Uses < 1:
			return refused("there is no grant for the token %x, or it is used up", s.Token)
		case s.Cluster != c.cluster:
			return refused("the statement is for another cluster")
		case s.Role != g.Role || g.Site != "" && s.Site != g.Site:
			return refused("the grant is for the role %q at site %q, not %q at %q", g.Role, g.Site, s.Role, s.Site)
		case !ed25519.Verify(g.Key[:], a.Statement, a.Seed[:]):
			return refused("the statement is not signed with the seed of the token")
		case !ed25519.Verify(s.Joiner[:], a.Statement, a.Node[:]):
			return refused("the statement is not signed by the node that joins")
		}
		if _, is := c.nodes[s.Joiner]; is {
			return refused("node %s is known already", s.Joiner.NodeID())
		}
		if g.Uses--; g.Uses == 0 {
			delete(c.grants, g.Key)
		} else {
			c.grants[g.Key] = g
		}
		return c.addNode(Node{Key: s.Joiner, Name: s.Name, Site: s.Site, Role: s.Role, Votes: roles[s.Role]})
	})
}

// signers returns who has signed, each once; a wrong signature is an error.
func (l Link) signers(cluster [16]byte) (keys []Key, err error) {
	if len(l.Sigs) > 2*MaxOperators+1 {
		return nil, refused("%d signatures", len(l.Sigs))
	}
	message := l.signed(cluster)
	for _, s := range l.Sigs {
		if slices.Contains(keys, s.Key) || !ed25519.Verify(s.Key[:], message, s.Sig[:]) {
			return nil, refused("the signature of %s is wrong or there twice", s.Key.NodeID())
		}
		keys = append(keys, s.Key)
	}
	return keys, nil
}

func count(signers, of []Key) (n int) {
	for _, k := range of {
		if slices.Contains(signers, k) {
			n++
		}
	}
	return n
}

// plain tells whether s is short printable text.
func plain(s string, most int) bool {
	if len(s) > most || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
