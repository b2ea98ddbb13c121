package operator

import (
	"crypto/ed25519"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), ed25519.SeedSize)))
}

// chain is that of a new cluster with one operator.
func chain(t *testing.T) *authority.Chain {
	t.Helper()
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{1}, Operators: []authority.Key{authority.PublicKey(key(1))}, Threshold: 1}, key(1))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A stranger changed the call in a file that operators had signed, and `operator
// submit` made a user with it and gave that every right: only the link was signed.
func TestOnlyWhatIsSignedIsCalled(t *testing.T) {
	node := authority.PublicKey(key(2))
	grant := authority.Grant{Key: authority.PublicKey(key(3)), Token: [8]byte{7}, Role: "replica", Uses: 1, Expires: 99}
	invite := url.Values{"invite": {"0700000000000000"}, "seed": {"aa"}, "role": {"replica"}, "uses": {"1"}, "expires": {"99"}, "ttl": {"3600"}, "comment": {"x"}}
	with := func(p url.Values, name string, values ...string) url.Values {
		q := url.Values{}
		for k, v := range p {
			q[k] = v
		}
		q[name] = values
		return q
	}
	remove := url.Values{"member": {"b"}, "eject": {"true"}}
	vote := url.Values{"member": {"b"}, "vote": {"false"}}
	add := authority.Node{Key: node, Name: "b", Site: "s", Role: "full"}
	for name, c := range map[string]struct {
		kind uint8
		body any
		call Call
		want string // of the parameters; "": it is refused
	}{
		"an invite":                  {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, invite}, "comment=x&expires=99&invite=0700000000000000&role=replica&seed=aa&uses=1"},
		"a user":                     {authority.AddGrant, grant, Call{http.MethodPost, "/access/users", url.Values{"userid": {"evil@pbs"}}}, ""},
		"rights":                     {authority.AddGrant, grant, Call{http.MethodPut, "/access/acl", url.Values{"path": {"/"}, "role": {"Admin"}}}, ""},
		"nothing":                    {authority.AddGrant, grant, Call{}, ""},
		"another role":               {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, with(invite, "role", "full")}, ""},
		"one more role":              {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, with(invite, "role", "replica", "full")}, ""},
		"two seeds":                  {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, with(invite, "seed", "aa", "bb")}, ""},
		"a site that nobody signed":  {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, with(invite, "site", "dc")}, ""},
		"approval of all":            {authority.AddGrant, grant, Call{http.MethodPost, InvitesPath, with(invite, "approve", "1")}, ""},
		"a removal":                  {authority.RemoveNode, authority.Removal{Key: node}, Call{http.MethodDelete, MemberPath, remove}, "eject=true&member=" + node.NodeID()},
		"a removal of somebody else": {authority.RemoveNode, authority.Removal{Key: node}, Call{http.MethodDelete, MemberPath, with(remove, "member", "c")}, "eject=true&member=" + node.NodeID()},
		"a removal as an invite":     {authority.RemoveNode, authority.Removal{Key: node}, Call{http.MethodPost, InvitesPath, invite}, ""},
		"a demotion":                 {authority.AddNode, add, Call{http.MethodPut, MemberPath, vote}, "member=" + node.NodeID() + "&role=full&vote=false"},
		"a demotion that promotes":   {authority.AddNode, add, Call{http.MethodPut, MemberPath, with(vote, "vote", "true")}, ""},
		"what drains it":             {authority.AddNode, add, Call{http.MethodPut, MemberPath, with(vote, "state", "draining")}, ""},
		"the naming before removal":  {authority.AddNode, add, Call{http.MethodDelete, MemberPath, remove}, "member=" + node.NodeID() + "&role=full&vote=false"},
		"new operators": {
			authority.Operators, authority.OperatorsBody{Operators: []authority.Key{node}, Threshold: 1},
			Call{http.MethodPost, OperatorsPath, url.Values{"operator": {node.NodeID()}, "threshold": {"1"}}}, "operator=" + node.NodeID() + "&threshold=1",
		},
		"other operators": {
			authority.Operators, authority.OperatorsBody{Operators: []authority.Key{node}, Threshold: 1},
			Call{http.MethodPost, OperatorsPath, url.Values{"operator": {grant.Key.NodeID()}, "threshold": {"1"}}}, "",
		},
		"new operators who may wait": {
			authority.NewOperators, authority.OperatorsBody{Operators: []authority.Key{node}, Threshold: 1},
			Call{http.MethodPost, OperatorsPath, url.Values{"operator": {node.NodeID()}, "threshold": {"1"}}}, "operator=" + node.NodeID() + "&threshold=1",
		},
		"a veto":              {authority.Veto, authority.Waiting{Seq: 3}, Call{http.MethodDelete, OperatorsPath, nil}, "-"},
		"a veto of a removal": {authority.Veto, authority.Waiting{Seq: 3}, Call{http.MethodDelete, MemberPath, nil}, ""},
		"what nobody signs":   {authority.Enact, authority.Waiting{Seq: 3}, Call{http.MethodPost, OperatorsPath, nil}, ""},
		"a recovery": {
			authority.Recover, authority.Recovery{Incarnation: 2, Base: node, Reason: "fire"},
			Call{http.MethodPost, RecoverPath, url.Values{"reason": {"fire"}}}, "reason=fire",
		},
		"a genesis": {authority.Genesis, authority.GenesisBody{}, Call{http.MethodPost, "/access/users", nil}, ""},
	} {
		d := NewDraft(chain(t), c.kind, c.body)
		if err := d.Ready(); err == nil {
			t.Errorf("%s: nobody has signed it, and it is ready", name)
		}
		d, _, err := d.Cosign(key(1))
		if err != nil || d.Ready() != nil {
			t.Fatalf("%s: %v, %v", name, err, d.Ready())
		}
		got, err := d.Implied(c.call)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: it is not refused but calls %v", name, got)
			}
			continue
		}
		if got.Params.Get("link") != d.Link {
			t.Errorf("%s: the link is %q", name, got.Params.Get("link"))
		}
		got.Params.Del("link")
		if err != nil || got.Params.Encode() != strings.TrimPrefix(c.want, "-") {
			t.Errorf("%s: %s %s %s, %v; want %s", name, got.Method, got.Path, got.Params.Encode(), err, c.want)
		}
		if _, err := Signed(d.Link, c.kind, c.body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Signed(d.Link, authority.DropGrant, authority.Drop{Key: node}); err == nil {
			t.Errorf("%s: it is taken for the end of an invite", name)
		}
		d.Cluster = strings.Repeat("ab", 16)
		if err := d.Ready(); err == nil {
			t.Errorf("%s: signatures for another cluster count", name)
		}
	}
}
