package ledger

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

func edSign(k ed25519.PrivateKey, b []byte) []byte { return ed25519.Sign(k, b) }

func TestJoin(t *testing.T) {
	w := newWorld(t)
	w.invited(50, 1, false)
	j := newJoiner(50, 20)
	w.do(10, KindJoin, j.join())
	if m, is := w.member(20); !is || m.State != Active || m.Votes || m.Name != "node-20" || string(m.Record) != string(j.record) {
		t.Errorf("%+v", m)
	}
	w.do(10, KindJoin, j.join()) // the answer was lost
	if i, _ := Invites.Get(w.l.View(), TokenKey([8]byte{50})); i.Body.Uses != 0 || len(i.Body.Used) != 1 {
		t.Errorf("%+v", i)
	}
	w.want(w.try(10, KindJoin, newJoiner(50, 21).join()), Forbidden, "as often as it may")
	if n := w.l.View().Count(Members.number); n != 2 {
		t.Errorf("%d members", n)
	}
}

func TestWhoMayNotJoin(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world, *joiner)
		code   Code
		want   string
	}{
		{"a token of nobody", func(w *world, j *joiner) { j.s.Token[0]++ }, Forbidden, "does not know this token"},
		{"a wrong seed", func(w *world, j *joiner) { j.seed++ }, Forbidden, "seed of the token"},
		{"in the name of another", func(w *world, j *joiner) { j.node++ }, Forbidden, "not signed by the node"},
		{"another record", func(w *world, j *joiner) { j.record = []byte("x") }, Forbidden, "node record"},
		{"a record of another", func(w *world, j *joiner) { j.recordKey++ }, Forbidden, "node record"},
		{"another cluster", func(w *world, j *joiner) { j.s.Cluster[0]++ }, Forbidden, "another cluster"},
		{"asked of another member", func(w *world, j *joiner) { j.s.Member = public(11) }, Forbidden, "another member"},
		{"another role", func(w *world, j *joiner) { j.s.Role = "full" }, Forbidden, "another role"},
		{"an expired token", func(w *world, j *joiner) { w.now = w.now.Add(2 * time.Hour) }, Forbidden, "expired"},
		{"a revoked token", func(w *world, j *joiner) { w.do(10, KindRevoke, Revoke{Token: [8]byte{50}}) }, Forbidden, "revoked"},
		{"a name that is taken", func(w *world, j *joiner) { j.s.Name = "home-1" }, Refused, "already"},
		{"no name", func(w *world, j *joiner) { j.s.Name = "" }, Refused, "needs a name"},
		{"a member", func(w *world, j *joiner) { j.node = 10; j.s.Joiner = public(10) }, Refused, "known already"},
		{"who was removed", func(w *world, j *joiner) {
			w.addNode(20, "old", "dc", "full", false)
			w.do(10, KindAuthority, Link{w.draft(authority.RemoveNode, authority.Removal{Key: public(20)})})
		}, Refused, "joins with a new key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.invited(50, 1, false)
			j := newJoiner(50, 20)
			tt.change(w, &j)
			before := w.l.View().Count(Members.number)
			w.want(w.try(10, KindJoin, j.join()), tt.code, tt.want)
			if n := w.l.View().Count(Members.number); n != before {
				t.Errorf("%d members", n)
			}
		})
	}
}

func TestWrongSignaturesBurnAToken(t *testing.T) {
	w := newWorld(t)
	w.invited(50, 1, false)
	wrong := newJoiner(50, 20)
	wrong.seed = 51
	for range maxFailures {
		w.want(w.try(10, KindJoin, wrong.join()), Forbidden, "seed")
	}
	w.want(w.try(10, KindJoin, newJoiner(50, 20).join()), Forbidden, "of no use any more")
}

func TestApproval(t *testing.T) {
	w := newWorld(t)
	w.invited(50, 1, true)
	w.do(10, KindJoin, newJoiner(50, 20).join())
	if m, _ := w.member(20); m.State != Pending {
		t.Errorf("%+v", m)
	}
	w.want(w.try(20, KindSession, OpenSession{1}), Forbidden, "no active member")
	w.addNode(20, "node-20", "dc", "full", true)
	if m, _ := w.member(20); m.State != Active || !m.Votes || m.Role != "full" || len(m.Record) == 0 {
		t.Errorf("%+v", m)
	}
	w.do(20, KindSession, OpenSession{1})
}

// An invite for a role that votes is an operator's word, and whoever joins by
// it is in the authority chain.
func TestGrantedInvite(t *testing.T) {
	w := newWorld(t)
	in := Invite{Key: public(50), Role: "full", Expires: w.now.Add(time.Hour).Unix(), Uses: 1}
	invite := NewInvite{Token: [8]byte{50}, Invite: in}
	w.want(w.try(10, KindInvite, invite), Forbidden, "signed by an operator")
	grant := authority.Grant{Key: in.Key, Token: invite.Token, Role: "full", Uses: 2, Expires: in.Expires}
	invite.Link = w.draft(authority.AddGrant, grant)
	w.want(w.try(10, KindInvite, invite), Refused, "another invite")
	if _, is := w.l.View().Chain().Grant(public(50)); is {
		t.Error("the grant of a refused invite stays")
	}
	grant.Uses = 1
	invite.Link = w.draft(authority.AddGrant, grant)
	w.do(10, KindInvite, invite)
	j := newJoiner(50, 20)
	j.s.Role = "full"
	w.do(10, KindJoin, j.join())
	n, is := w.l.View().Chain().Node(public(20))
	m, _ := w.member(20)
	if !is || !n.Votes || !m.Votes || m.State != Active || len(m.Record) == 0 {
		t.Errorf("%+v, %+v", n, m)
	}
	w.restart()
	w.want(w.try(10, KindJoin, newJoiner(50, 21).join()), Forbidden, "as often as it may")
}

func TestRecordsOfMembers(t *testing.T) {
	w := newWorld(t)
	record := func(text string, by byte, epoch uint64) Record {
		return Record{[]byte(text), [64]byte(edSign(private(by), append([]byte(RecordDomain), text...))), epoch}
	}
	w.do(10, KindRecord, record("one", 10, 1))
	w.want(w.try(10, KindRecord, record("two", 11, 2)), Forbidden, "not signed")
	w.want(w.try(10, KindRecord, record("two", 10, 1)), Conflict, "already")
	w.do(10, KindRecord, record("two", 10, 2))
	w.do(10, KindState, SetState{public(10), Draining})
	if m, _ := w.member(10); string(m.Record) != "two" || m.State != Draining || m.Name != "home-1" {
		t.Errorf("%+v", m)
	}
	w.want(w.try(10, KindState, SetState{public(10), Removed}), Refused, "does not become")
	w.restart()
}

// From the level of delays on, no invite is for a site that no node can be at.
func TestInviteForNoSite(t *testing.T) {
	w := newWorld(t)
	invite := func(seed byte) Result {
		return w.try(10, KindInvite, NewInvite{Token: [8]byte{seed}, Invite: Invite{Key: public(seed), Role: "replica", Site: "d\nc", Expires: w.now.Add(time.Hour).Unix(), Uses: 1}})
	}
	w.want(invite(50), Done, "") // as it was: logs have such ones
	for level := uint64(2); level <= authority.LevelDelay; level++ {
		w.do(10, KindLevel, RaiseLevel{level})
	}
	w.want(invite(51), Refused, `for the site "d\nc"`)
}
