package operator

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

func public(numbers ...byte) (all []authority.Key) {
	for _, n := range numbers {
		all = append(all, authority.PublicKey(key(n)))
	}
	return all
}

func private(numbers ...byte) (all []ed25519.PrivateKey) {
	for _, n := range numbers {
		all = append(all, key(n))
	}
	return all
}

// board is the chain of a cluster with the operators 1, 2 and 3, of whom two have to
// sign, and 9 on paper.
func board(t *testing.T) *authority.Chain {
	t.Helper()
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{1}, Operators: public(1, 2, 3), Threshold: 2, Recovery: public(9)[0]}, private(1, 2, 3)...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// `operator sign` counted the signature of a stranger, as "2 operators have signed, and 2
// have to", so that the file was carried back for nothing; and a change of operators was
// taken to be signed by enough when it would only begin to wait. What the tally says is
// what the chain does.
func TestTallyIsWhatTheChainSays(t *testing.T) {
	set := func(threshold int, who ...byte) authority.OperatorsBody {
		return authority.OperatorsBody{Operators: public(who...), Threshold: threshold}
	}
	node := authority.Node{Key: public(7)[0], Name: "n", Site: "s", Role: "full"}
	recovery := authority.Recovery{Incarnation: 2, Base: node.Key, Reason: "fire"}
	withNode, err := board(t).Next(board(t).Sign(board(t).Draft(authority.AddNode, node), private(1, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := board(t).Next(board(t).Sign(board(t).Draft(authority.NewOperators, set(1, 1, 2)), private(1, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	veto := authority.Waiting{Seq: 1}
	for _, c := range []struct {
		chain *authority.Chain
		kind  uint8
		body  any
		by    []byte
		want  string // have/need, "waits", and how many are missing of those who must
	}{
		{board(t), authority.AddNode, node, nil, "0/2"},
		{board(t), authority.AddNode, node, []byte{1}, "1/2"},
		{board(t), authority.AddNode, node, []byte{1, 1}, "1/2"},
		{board(t), authority.AddNode, node, []byte{1, 3}, "2/2"},
		{board(t), authority.AddNode, node, []byte{1, 2, 3}, "3/2"},
		{board(t), authority.AddNode, node, []byte{1, 8}, "none"},
		{board(t), authority.AddNode, node, []byte{1, 9}, "none"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1}, "1/3 must"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 3, 4}, "3/4 must"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 2}, "2/3 must"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 2, 4}, "3/3 waits"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 2, 4, 9}, "3/3"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 2, 3, 4}, "4/3"},
		{board(t), authority.NewOperators, set(2, 1, 2, 4), []byte{1, 2, 4, 8}, "none"},
		{board(t), authority.NewOperators, set(3, 1, 2, 3), []byte{1, 2}, "2/3 must"},
		{board(t), authority.NewOperators, set(3, 1, 2, 3), []byte{1, 2, 3}, "3/3"},
		{board(t), authority.NewOperators, set(1, 4), []byte{4, 1}, "2/3"},
		{board(t), authority.NewOperators, set(1, 4), []byte{4, 1, 9}, "2/3"},
		{board(t), authority.NewOperators, set(1, 4), []byte{4, 1, 2}, "3/3 waits"},
		{board(t), authority.NewOperators, set(1, 1), []byte{1}, "1/2"},
		{board(t), authority.NewOperators, set(1, 1), []byte{1, 2}, "2/2 waits"},
		{board(t), authority.Operators, set(1, 1), []byte{1, 2}, "2/2"},
		{board(t), authority.Operators, set(1, 1), []byte{1, 9}, "none"},
		{waiting, authority.Veto, veto, []byte{3}, "1/1"},
		{waiting, authority.Veto, veto, []byte{9}, "1/1"},
		{waiting, authority.Veto, veto, []byte{8}, "none"},
		{withNode, authority.Recover, recovery, []byte{9}, "1/1"},
		{withNode, authority.Recover, recovery, []byte{1}, "1/2"},
		{withNode, authority.Recover, recovery, []byte{1, 3}, "2/2"},
	} {
		name := c.want
		d, _, err := NewDraft(c.chain, c.kind, c.body).Cosign(private(c.by...)...)
		if (c.want == "none") != (err != nil) {
			t.Errorf("%d, %v signed by %v: %v, want %s", c.kind, c.body, c.by, err, name)
		}
		if err != nil {
			continue
		}
		tally, err := d.Tally()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Replace(strings.Replace(tally.String(), " operators have signed, and ", "/", 1), " operator has signed, and ", "/", 1)
		got, _, _ = strings.Cut(got, " have to")
		for word, is := range map[string]bool{" must": len(tally.Must) > 0, " waits": tally.Enough() && tally.Waits} {
			if is {
				got += word
			}
		}
		if got != c.want {
			t.Errorf("%d, %v signed by %v: %s, want %s", c.kind, c.body, c.by, got, name)
		}
		link, err := ReadLink(d.Link)
		if err != nil {
			t.Fatal(err)
		}
		after, err := c.chain.Next(link)
		if (err == nil) != tally.Enough() {
			t.Errorf("%d, %v signed by %v: the chain says %v, the tally %s", c.kind, c.body, c.by, err, tally)
		}
		if _, waits := after.Pending(); err == nil && c.kind != authority.Veto && waits != tally.Waits {
			t.Errorf("%d, %v signed by %v: it waits: %t", c.kind, c.body, c.by, waits)
		}
		if (tally.Lacks() == "") != tally.Enough() {
			t.Errorf("%d, %v signed by %v: it lacks %q", c.kind, c.body, c.by, tally.Lacks())
		}
	}
}

// A file that a program of before wrote does not say who the operators are: it is
// signed and counted as it was.
func TestFileOfBefore(t *testing.T) {
	d := NewDraft(board(t), authority.RemoveNode, authority.Removal{Key: public(7)[0]})
	d = Draft{Cluster: d.Cluster, Link: d.Link, Need: d.Need}
	d, _, err := d.Cosign(private(1, 8)...)
	if err != nil {
		t.Fatal(err)
	}
	if tally, err := d.Tally(); err != nil || tally.Have != 2 || tally.Need != 2 || tally.Waits || tally.Lacks() != "" {
		t.Errorf("%+v, %v", tally, err)
	}
}

// Who has to sign a change of operators was said too low where all of now stay and more
// of them are to sign from then on: all of them have to.
func TestNeed(t *testing.T) {
	for _, c := range []struct {
		threshold int
		who       []byte
		want      int
	}{{2, []byte{1, 2, 3}, 3}, {3, []byte{1, 2, 3}, 3}, {2, []byte{1, 2, 4}, 3}, {1, []byte{4}, 3}, {1, []byte{1}, 2}} {
		if d := NewDraft(board(t), authority.NewOperators, authority.OperatorsBody{Operators: public(c.who...), Threshold: c.threshold}); d.Need != c.want {
			t.Errorf("%d of %v: %d have to sign, want %d", c.threshold, c.who, d.Need, c.want)
		}
	}
}
