package members

import (
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

// A machine that joined with an invite that wants approval takes no part until
// an operator has signed for it, and one that is denied never does.
func TestApproveAndDeny(t *testing.T) {
	w := newWorld(t)
	var m made
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}, "uses": {"2"}, "approve": {"1"}}, &m); err != nil || !m.Approve {
		t.Fatalf("%+v, %v", m, err)
	}
	good, err := w.join(m.Token, "nas", "attic")
	if err != nil {
		t.Fatal(err)
	}
	thief, err := w.join(m.Token, "thief", "away")
	if err != nil {
		t.Fatal(err)
	}
	state := func(name string) string {
		for _, m := range All(w.cluster, true) {
			if m.Name == name {
				return m.State
			}
		}
		return ""
	}
	if state("nas") != ledger.Pending || w.cluster.Roster().Member(good.NodeID()) == nil {
		t.Errorf("before approval it is %s, or a member", state("nas"))
	}
	for _, c := range []struct {
		name, method string
		params       url.Values
		want         string
	}{
		{"a vote before approval", "PUT", url.Values{"vote": {"1"}, "draft": {"1"}}, "waits for approval"},
		{"a removal before approval", "DELETE", url.Values{"draft": {"1"}}, "waits for approval"},
		{"a role that there is not", "PUT", url.Values{"approve": {"1"}, "role": {"king"}, "draft": {"1"}}, "there is no role"}, // it was signed
		{"an active state without a signature", "PUT", url.Values{"state": {"active"}}, "does not become"},
	} {
		if err := w.call(c.method, "/members/nas", c.params, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := w.sign(operator.Change, "PUT", "/members/nas", url.Values{"approve": {"1"}, "role": {"full"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Roster().Member(good.NodeID()); err != nil || state("nas") != ledger.Active {
		t.Errorf("approved, it is %s: %v", state("nas"), err)
	}
	if err := w.call("PUT", "/members/thief", url.Values{"state": {"removed"}}, nil); err != nil {
		t.Fatal(err)
	}
	if state("thief") != ledger.Removed || w.cluster.Roster().Member(thief.NodeID()) == nil {
		t.Errorf("denied, it is %s, or a member", state("thief"))
	}
	if err := w.sign(operator.Change, "PUT", "/members/thief", url.Values{"approve": {"1"}}, nil); err == nil {
		t.Error("who was denied was approved")
	}
	if err := w.call("PUT", "/members/nas", url.Values{"state": {"removed"}}, nil); err == nil || !strings.Contains(err.Error(), "does not wait") {
		t.Errorf("an active member was removed without a signature: %v", err)
	}
}
