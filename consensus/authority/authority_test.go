package authority

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func public(n byte) Key                 { return PublicKey(private(n)) }

var cluster = [16]byte{7}

// founded returns a chain of operators 1 to n of whom k must sign.
func founded(t testing.TB, n, k int) *Chain {
	t.Helper()
	g := GenesisBody{Cluster: cluster, Threshold: k, Recovery: public(99)}
	var keys []ed25519.PrivateKey
	for i := range n {
		keys = append(keys, private(byte(1+i)))
		g.Operators = append(g.Operators, public(byte(1+i)))
	}
	c, err := Read([][]byte{Found(g, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Chain) must(t testing.TB, kind uint8, body any, keys ...ed25519.PrivateKey) *Chain {
	t.Helper()
	next, err := c.Next(c.Sign(c.Draft(kind, body), keys...))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func home(n byte) Node {
	return Node{Key: public(n), Name: fmt.Sprint("node-", n), Site: "home", Role: "full", Votes: true}
}

func TestChain(t *testing.T) {
	c := founded(t, 1, 1)
	c = c.must(t, AddNode, home(10), private(1))
	c = c.must(t, AddNode, home(11), private(1))
	c = c.must(t, RemoveNode, Removal{public(11)}, private(1))
	c = c.must(t, Recover, Recovery{2, public(10), "dc burnt"}, private(99))
	again, err := Read(c.Links(0))
	if err != nil {
		t.Fatal(err)
	}
	if n, is := again.Node(public(10)); !is || n.Name != "node-10" || !n.Votes || again.Incarnation() != 2 || again.GenesisHash() != c.GenesisHash() {
		t.Errorf("%+v, %v, %d", n, is, again.Incarnation())
	}
	if _, is := again.Node(public(11)); is {
		t.Error("a removed node is there")
	}
	n1, h1 := c.Head()
	n2, h2 := again.Head()
	if n1 != 5 || n1 != n2 || h1 != h2 || !again.Extends(c) || !c.Extends(founded(t, 1, 1)) || founded(t, 1, 1).Extends(c) || founded(t, 2, 1).Extends(founded(t, 1, 1)) {
		t.Error("the heads of equal chains differ, or those of different ones do not")
	}
}

func TestWhatIsNotAuthorised(t *testing.T) {
	one, three := founded(t, 1, 1).must(t, AddNode, home(10), private(1)), founded(t, 3, 2)
	grant := Grant{Key: public(50), Token: [8]byte{1}, Role: "full", Uses: 1, Expires: 1 << 40}
	tests := []struct {
		name string
		c    *Chain
		kind uint8
		body any
		keys []ed25519.PrivateKey
		want string
	}{
		{"nobody signs", one, AddNode, home(11), nil, "0 of the operators"},
		{"a node signs", one, AddNode, home(11), []ed25519.PrivateKey{private(10)}, "0 of the operators"},
		{"one of two needed", three, AddNode, home(11), []ed25519.PrivateKey{private(3)}, "1 of the operators have signed, want 2"},
		{"the same twice", three, AddNode, home(11), []ed25519.PrivateKey{private(3), private(3)}, "there twice"},
		{"the recovery key adds a node", one, AddNode, home(11), []ed25519.PrivateKey{private(99)}, "0 of the operators"},
		{"a second genesis", one, Genesis, GenesisBody{Cluster: cluster, Operators: []Key{public(2)}, Threshold: 1}, []ed25519.PrivateKey{private(2)}, "no other"},
		{"a kind from the future", one, 200, home(11), []ed25519.PrivateKey{private(1)}, "does not know"},
		{"a name that is taken", one, AddNode, Node{Key: public(11), Name: "node-10", Site: "x", Role: "full"}, []ed25519.PrivateKey{private(1)}, `already`},
		{"a role that is none", one, AddNode, Node{Key: public(11), Name: "n", Site: "x", Role: "king"}, []ed25519.PrivateKey{private(1)}, "king"},
		{"removing a stranger", one, RemoveNode, Removal{public(11)}, []ed25519.PrivateKey{private(1)}, "to remove"},
		{"a new operator without its key", one, Operators, OperatorsBody{[]Key{public(2)}, 1}, []ed25519.PrivateKey{private(1)}, "not every new operator"},
		{"operators that nobody can be", three, Operators, OperatorsBody{[]Key{public(1)}, 2}, []ed25519.PrivateKey{private(1), private(2)}, "2 of 1 operators"},
		{"a grant for ever so many", one, AddGrant, Grant{Key: public(5), Role: "full", Uses: 21}, []ed25519.PrivateKey{private(1)}, "21 times"},
		{"a recovery that skips too many", one, Recover, Recovery{MaxIncarnation + 1, public(10), ""}, []ed25519.PrivateKey{private(1)}, "incarnation 1 to 9007199254740992"},
		{"a recovery of what is", one, Recover, Recovery{1, public(10), ""}, []ed25519.PrivateKey{private(1)}, "incarnation 1 to 1"},
		{"a recovery by a stranger", one, Recover, Recovery{2, public(11), ""}, []ed25519.PrivateKey{private(1)}, "incarnation 1 to 2"},
		{"a body with too much", one, AddNode, []any{home(11), 1}, []ed25519.PrivateKey{private(1)}, "canonical"},
		{"dropping what is not there", one, DropGrant, Drop{grant.Key}, []ed25519.PrivateKey{private(1)}, "no such grant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.c.Next(tt.c.Sign(tt.c.Draft(tt.kind, tt.body), tt.keys...))
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
}

// A link is good in one place of one cluster only.
func TestLinksCannotBeMoved(t *testing.T) {
	c := founded(t, 1, 1)
	link := c.Sign(c.Draft(AddNode, home(10)), private(1))
	next, err := c.Next(link)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Next(link); !errors.Is(err, ErrRefused) {
		t.Errorf("it was taken twice: %v", err)
	}
	other, err := Read([][]byte{Found(GenesisBody{Cluster: [16]byte{8}, Operators: []Key{public(1)}, Threshold: 1}, private(1))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Next(link); !errors.Is(err, ErrRefused) {
		t.Errorf("it was taken in another cluster: %v", err)
	}
	var l Link
	if err := canon.Decode(link, &l); err != nil {
		t.Fatal(err)
	}
	_, l.Prev = other.Head() // as if made for the other one
	if _, err := other.Next(canon.Encode(l)); !errors.Is(err, ErrRefused) {
		t.Errorf("its signature is good in another cluster: %v", err)
	}
	left, right := c.must(t, AddNode, home(11), private(1)), c.must(t, AddNode, home(12), private(1))
	third := left.Sign(left.Draft(AddNode, home(13)), private(1))
	if _, err := right.Next(third); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "does not stand behind") {
		t.Errorf("it was taken in another history of the same length: %v", err)
	}
	if err := c.Approved([]byte("m"), []Signature{{public(1), [64]byte(ed25519.Sign(private(1), []byte("m")))}}); err != nil {
		t.Error(err)
	}
	for i := range link { // and no byte of it can be changed
		bad := bytes.Clone(link)
		bad[i] ^= 1
		if _, err := c.Next(bad); !errors.Is(err, ErrRefused) {
			t.Fatalf("with byte %d changed it is taken: %v", i, err)
		}
	}
}

// statement returns the bytes of a join statement.
func statement(s Statement) []byte {
	b := []byte(statementDomain)
	for _, p := range [][]byte{s.Cluster[:], s.Token[:], s.Joiner[:], s.Member[:], s.Nonces[0][:], s.Nonces[1][:], s.Record[:]} {
		b = append(b, p...)
	}
	for _, v := range []string{s.Role, s.Site, s.Name} {
		b = append(append(b, byte(len(v))), v...)
	}
	return b
}

func TestAdmission(t *testing.T) {
	base := founded(t, 1, 1).must(t, AddGrant, Grant{Key: public(50), Token: [8]byte{1}, Role: "full", Site: "dc", Uses: 2, Expires: 1}, private(1))
	good := Statement{Cluster: cluster, Token: [8]byte{1}, Joiner: public(20), Member: public(10), Role: "full", Site: "dc", Name: "dc-1"}
	admit := func(c *Chain, s Statement, seed, node ed25519.PrivateKey) (*Chain, error) {
		b := statement(s)
		return c.Next(c.Sign(c.Draft(Admit, Admission{b, [64]byte(ed25519.Sign(seed, b)), [64]byte(ed25519.Sign(node, b))})))
	}
	for name, change := range map[string]func(*Statement){
		"another cluster": func(s *Statement) { s.Cluster[0]++ }, "another token": func(s *Statement) { s.Token[0]++ },
		"more than granted": func(s *Statement) { s.Role = "cloud" }, "another site": func(s *Statement) { s.Site = "home" },
	} {
		s := good
		change(&s)
		if _, err := admit(base, s, private(50), private(20)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := admit(base, good, private(51), private(20)); !errors.Is(err, ErrRefused) {
		t.Errorf("another seed: %v", err)
	}
	if _, err := admit(base, good, private(50), private(21)); !errors.Is(err, ErrRefused) {
		t.Errorf("in the name of another node: %v", err)
	}
	c, err := admit(base, good, private(50), private(20))
	if err != nil {
		t.Fatal(err)
	}
	if n, is := c.Node(public(20)); !is || !n.Votes || n.Site != "dc" {
		t.Errorf("%+v, %v", n, is)
	}
	if _, err := admit(c, good, private(50), private(20)); !errors.Is(err, ErrRefused) {
		t.Errorf("the same node twice: %v", err)
	}
	second := good
	second.Joiner, second.Name = public(21), "dc-2"
	if c, err = admit(c, second, private(50), private(21)); err != nil {
		t.Fatal(err)
	}
	third := good
	third.Joiner, third.Name = public(22), "dc-3"
	if _, err := admit(c, third, private(50), private(22)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "used up") {
		t.Errorf("a third of two: %v", err)
	}
	gone := base.must(t, DropGrant, Drop{public(50)}, private(1))
	if _, err := admit(gone, good, private(50), private(20)); !errors.Is(err, ErrRefused) {
		t.Errorf("a grant that was dropped: %v", err)
	}
}

func TestKeeper(t *testing.T) {
	c := founded(t, 1, 1).must(t, AddNode, home(10), private(1))
	follower := home(11)
	follower.Votes = false
	longer := c.must(t, AddNode, follower, private(1))
	saved, failing, blocked := 0, error(nil), Key{}
	k := NewKeeper(KeeperConfig{
		Chain: c, Save: func(*Chain) error { saved++; return failing },
		Blocked: func(k Key) bool { return k == blocked }, Invited: func(k Key) bool { return k == public(30) || k == public(40) },
	})
	if k.Member(public(30).NodeID()) != nil || k.Voter(public(30).NodeID()) == nil || k.Member(public(31).NodeID()) == nil {
		t.Error("who was invited is no member, or votes")
	}
	if k.Voter(public(10).NodeID()) != nil || k.Member(public(11).NodeID()) == nil || k.Member("x") == nil {
		t.Error("it does not know who is who")
	}
	failing = errors.New("disk full")
	if err := k.Extend(longer.Links(2)); !errors.Is(err, failing) || k.Member(public(11).NodeID()) == nil {
		t.Errorf("a chain that cannot be stored is believed: %v", err)
	}
	failing = nil
	if err := k.Extend(longer.Links(2)); err != nil || saved != 2 || k.Member(public(11).NodeID()) != nil || k.Voter(public(11).NodeID()) == nil {
		t.Errorf("%v, saved %d times", err, saved)
	}
	if err := k.Follow(c); err != nil { // older: nothing new
		t.Error(err)
	}
	if err := k.Follow(c.must(t, AddNode, home(12), private(1)).must(t, AddNode, home(13), private(1))); !errors.Is(err, ErrRefused) {
		t.Errorf("another history: %v", err)
	}
	if err := k.Extend(c.Links(1)); !errors.Is(err, ErrRefused) {
		t.Errorf("links that stand elsewhere: %v", err)
	}
	removed := k.Chain().must(t, AddNode, home(40), private(1)).must(t, RemoveNode, Removal{public(40)}, private(1))
	if err := k.Follow(removed); err != nil || k.Member(public(40).NodeID()) == nil {
		t.Errorf("who was removed is a member by an old invite: %v", err)
	}
	blocked = public(10)
	if k.Member(public(10).NodeID()) == nil {
		t.Error("a blocked node is a member")
	}
}

func TestNodeID(t *testing.T) {
	// What go-libp2p 0.51.0 makes of the same key.
	if id := public(9).NodeID(); id != "12D3KooWSrKnMZUcSxK8G7wmBbXdU8nFEfWGhLu6H8xjn8LmCSJb" {
		t.Errorf("it is not a peer ID: %s", id)
	}
	for n := range byte(200) {
		k := public(n)
		id := k.NodeID()
		if back, err := ParseNodeID(id); err != nil || back != k || !strings.HasPrefix(id, "12D3KooW") || len(id) != 52 {
			t.Fatalf("%s is read as %v, %v", id, back, err)
		}
	}
	for _, bad := range []string{"", "1", "12D3KooW", strings.Repeat("1", 52), "12D3KooW" + strings.Repeat("0", 44), public(1).NodeID() + "1", "\xff" + public(1).NodeID()[1:]} {
		if k, err := ParseNodeID(bad); err == nil {
			t.Errorf("%q is %v", bad, k)
		}
	}
}

func FuzzChain(f *testing.F) {
	c := founded(f, 1, 1)
	f.Add(c.Sign(c.Draft(AddNode, home(10)), private(1)))
	f.Add(c.Links(0)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		if next, err := c.Next(b); err == nil {
			if n, _ := next.Head(); n != 2 || !next.Extends(c) {
				t.Errorf("%x leads to %d links", b, n)
			}
		}
		(&Chain{}).Next(b)
		if s, err := ParseStatement(b); err == nil && !bytes.Equal(statement(s), b) {
			t.Errorf("%x is read as %+v", b, s)
		}
		if k, err := ParseNodeID(string(b)); err == nil && k.NodeID() != string(b) {
			t.Errorf("%q is %s", b, k)
		}
	})
}
