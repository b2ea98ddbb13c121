package warden

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// anybody may do all: who calls is no part of these tests.
type anybody struct{}

func (anybody) Check(context.Context, access.Credentials) (access.AuthID, error) {
	return access.Root, nil
}
func (anybody) Require(access.AuthID, access.Privilege, ...string) error { return nil }

func (anybody) Privileges(access.AuthID, ...string) access.Privilege {
	return access.PrivSysAudit | access.PrivSysModify
}

func (anybody) AnyBelow(access.AuthID, ...string) access.Privilege {
	return access.PrivSysAudit | access.PrivSysModify
}

// A keeper is a node whose guard is loosened.
type keeper struct {
	guard *guard.Guard
	chain *authority.Chain
	self  authority.Key
	freed int
}

func (k *keeper) Guard() *guard.Guard     { return k.guard }
func (k *keeper) Chain() *authority.Chain { return k.chain }
func (k *keeper) Self() string            { return k.self.NodeID() }
func (k *keeper) Release()                { k.freed++ }

func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), ed25519.SeedSize)))
}

func public(n byte) authority.Key { return authority.PublicKey(private(n)) }

// newKeeper is node 10, called nas, of the operators 1, 2 and 3, of whom two have to sign;
// node 11 is called attic.
func newKeeper(t *testing.T) (*keeper, func(method, path string, params url.Values, into any) error) {
	t.Helper()
	keys := []ed25519.PrivateKey{private(1), private(2), private(3)}
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{1}, Operators: []authority.Key{public(1), public(2), public(3)}, Threshold: 2}, keys...)})
	must(t, err)
	for n, name := range map[byte]string{10: "nas", 11: "attic"} {
		c, err = c.Next(c.Sign(c.Draft(authority.AddNode, authority.Node{Key: public(n), Name: name, Site: "s", Role: "full"}), keys...))
		must(t, err)
	}
	k := &keeper{guard: config(t).Guard, chain: c, self: public(10)}
	router, err := rest.New(rest.Config{Gate: anybody{}, Endpoints: Endpoints(k, func() time.Duration { return 0 })})
	must(t, err)
	return k, func(method, path string, params url.Values, into any) error {
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, httptest.NewRequest(method, "/api2/json"+path+"?"+params.Encode(), nil))
		if rec.Code != http.StatusOK {
			return errors.New(rec.Body.String() + rec.Header().Get(rest.HintHeader))
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(rec.Body.Bytes(), &struct{ Data any }{into})
	}
}

// A file with what loosens a guard was submitted on any node at all and refused as being
// "for another node or cluster", and one that too few had signed did not say whom it
// lacked. Who the file says the operators are counts for nothing.
func TestReleaseThatWasSignedElsewhere(t *testing.T) {
	k, call := newKeeper(t)
	must(t, k.guard.Block("op", guard.Block{What: "node " + public(11).NodeID(), Reason: "ejected"}))
	var d operator.Draft
	params := url.Values{"block": {"node " + public(11).NodeID()}, "reason": {"a mistake"}}
	must(t, call("POST", operator.ReleasePath, params, &d))
	if d.Names[public(11).NodeID()] != "attic" || d.Names[public(10).NodeID()] != "nas" || len(d.Operators) != 3 || d.Threshold != 2 {
		t.Errorf("%+v", d)
	}
	signed := func(d operator.Draft, by ...byte) url.Values {
		t.Helper()
		var keys []ed25519.PrivateKey
		for _, n := range by {
			keys = append(keys, private(n))
		}
		d, _, err := d.SignRequest(operator.Wanted(params.Get), keys...)
		must(t, err)
		text, err := json.Marshal(operator.File{Draft: d})
		must(t, err)
		_, c, err := operator.ParseFile(text)
		must(t, err)
		if c.Method != "POST" || c.Path != operator.ReleasePath {
			t.Fatalf("%+v", c)
		}
		return c.Params
	}
	refused := func(p url.Values, want ...string) {
		t.Helper()
		err := call("POST", operator.ReleasePath, p, nil)
		for _, text := range want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, want %q", err, text)
			}
		}
		if !k.guard.Blocked("node " + public(11).NodeID()) {
			t.Fatal("it is let in")
		}
	}
	strangers := d
	strangers.Operators, strangers.Threshold = []string{public(8).NodeID(), public(9).NodeID()}, 2
	refused(signed(strangers, 8, 9), "0 operators have signed, and 2 have to", public(1).NodeID(), "operator sign")
	refused(signed(d, 2), "1 operator has signed, and 2 have to", "1 more of these", public(1).NodeID(), public(3).NodeID())
	two := signed(d, 1, 3)

	k.self = public(11)
	refused(two, "is for node nas", "operator submit FILE` on nas")
	k.self = public(10)
	before := k.chain
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{2}, Operators: []authority.Key{public(1), public(3)}, Threshold: 2}, private(1), private(3))})
	must(t, err)
	k.chain = c
	refused(two, "another cluster")
	k.chain = before

	must(t, call("POST", operator.ReleasePath, two, nil))
	if k.guard.Blocked("node "+public(11).NodeID()) || k.freed != 1 {
		t.Errorf("it is kept out still, or nobody was told: %d", k.freed)
	}
	must(t, k.guard.Block("op", guard.Block{What: "node " + public(11).NodeID(), Reason: "once more"}))
	refused(two, "made before")
}

// `guard veto 7c1d`, as the help has it, found no request: it wanted all 32 digits.
func TestVetoByTheBeginningOfAnID(t *testing.T) {
	k, call := newKeeper(t)
	ask := func(id ...byte) {
		t.Helper()
		r := guard.Request{Cluster: [16]byte{1}, Node: public(10), Floor: &guard.Floor{Scope: "main", MinAge: 60}, Reason: "x"}
		copy(r.ID[:], id)
		for _, n := range []byte{1, 2} {
			r.Sigs = append(r.Sigs, authority.Signature{Key: public(n), Sig: [64]byte(ed25519.Sign(private(n), r.Signed()))})
		}
		must(t, call("POST", operator.ReleasePath, url.Values{"request": {base64.StdEncoding.EncodeToString(canon.Encode(r))}}, nil))
	}
	ask(0x7c, 0x1d, 1)
	ask(0x7c, 0x1d, 2)
	ask(0xab, 0xcd)
	for _, c := range []struct{ id, want string }{
		{"7c1", "at least 4 digits"}, {"7c1d", "2 requests begin"}, {"7c1e", "no request"}, {"zzzz", "no request"},
		{hex.EncodeToString(make([]byte, 16)), "no request"}, {"7c1d010000000000000000000000000000", "no request"},
	} {
		if err := call("DELETE", operator.ReleasePath+"/"+c.id, url.Values{}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.id, err, c.want)
		}
	}
	if n := len(k.guard.Pending()); n != 3 {
		t.Fatalf("%d wait", n)
	}
	for i, id := range []string{"ABCD", "7c1d02", "7c1d0100000000000000000000000000"} {
		must(t, call("DELETE", operator.ReleasePath+"/"+id, url.Values{"reason": {"nobody asked"}}, nil))
		if n := len(k.guard.Pending()); n != 2-i {
			t.Errorf("%s: %d wait", id, n)
		}
	}
}
