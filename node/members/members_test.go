package members

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A world is a cluster of one that answers its operator.
type world struct {
	t        *testing.T
	cluster  *cluster.Cluster
	operator ed25519.PrivateKey
	router   *rest.Router
	ahead    atomic.Int64 // of the clock of this node, nanoseconds
	own      atomic.Int64 // how far its own is ahead of what most have it take for the time
	clocks   map[string]time.Duration
	cut      int // times that the roster was to be followed at once

	told func() (nodes []string, left int) // nil: nobody is connected
}

type root struct{ *access.Service }

func (root) Check(context.Context, access.Credentials) (access.AuthID, error) {
	return access.Root, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newStopped(t)
	w.run()
	if err := w.cluster.Group().Linear(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// newStopped is a world whose cluster does not run yet.
func newStopped(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	key, err := keyfile.Make(filepath.Join(dir, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	now := func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	cfg := cluster.Config{Dir: filepath.Join(dir, "c"), Key: key, Now: now, Clock: func() time.Time { return now().Add(time.Duration(w.own.Load())) }}
	f := cluster.Founding{Name: "home", Site: "here", Operator: func() (ed25519.PrivateKey, error) {
		w.operator, err = keyfile.Make(filepath.Join(dir, "operator.key"))
		return w.operator, err
	}}
	if err := cluster.Found(t.Context(), cfg, f); err != nil {
		t.Fatal(err)
	}
	if w.cluster, err = cluster.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	ticket, err := access.OpenKey(filepath.Join(dir, "ticket.key"))
	if err != nil {
		t.Fatal(err)
	}
	service, err := access.New(access.Config{Store: w.cluster.Accounts(), Key: ticket})
	if err != nil {
		t.Fatal(err)
	}
	w.router, err = rest.New(rest.Config{Gate: root{service}, Endpoints: Endpoints(Config{
		Cluster: w.cluster,
		Ask:     func() []invite.Member { return []invite.Member{{Node: w.cluster.Self()}} },
		Cut:     func(context.Context) { w.cut++ },
		Clocks:  func() map[string]time.Duration { return w.clocks },
		Told: func(time.Time) ([]string, int) {
			if w.told == nil {
				return nil, 0
			}
			return w.told()
		},
	})})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs the cluster until the test ends.
func (w *world) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.cluster.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// call calls the API; the error is the text of a refusal.
func (w *world) call(method, path string, params url.Values, into any) error {
	w.t.Helper()
	req := httptest.NewRequest(method, "/api2/json/holdfast"+path+"?"+params.Encode(), nil)
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		return errors.New(rec.Body.String())
	}
	if into == nil {
		return nil
	}
	answer := struct{ Data any }{into}
	return json.Unmarshal(rec.Body.Bytes(), &answer)
}

// sign calls with draft, signs, and calls again.
func (w *world) sign(action, method, path string, params url.Values, into any) error {
	w.t.Helper()
	params.Set("draft", "1")
	var d Invitation
	if err := w.call(method, path, params, &d); err != nil {
		return err
	}
	link, _, err := d.Sign(action, w.operator)
	if err != nil {
		return err
	}
	params.Del("draft")
	params.Set("link", link)
	if d.ID != "" {
		params.Set("invite", d.ID)
		params.Set("seed", d.Seed)
		params.Set("expires", json.Number(jsonText(d.Expires)).String())
	}
	return w.call(method, path, params, into)
}

func jsonText(v any) string { b, _ := json.Marshal(v); return string(b) }

// join has a machine join with a token, as the member would that it asks.
func (w *world) join(text, name, site string) (authority.Key, error) {
	w.t.Helper()
	token, err := invite.Parse(text)
	if err != nil {
		w.t.Fatal(err)
	}
	machine, err := keyfile.Make(filepath.Join(w.t.TempDir(), "key"))
	if err != nil {
		w.t.Fatal(err)
	}
	self, _ := authority.ParseNodeID(w.cluster.Self())
	record := []byte("record of " + name)
	st := invite.Statement{
		Cluster: token.Cluster, Token: token.ID, Joiner: machine.Public().(ed25519.PublicKey), Member: self[:],
		Record: record, Role: token.Role, Site: site, Name: name,
	}
	b, seed, node, err := st.Sign(token, machine)
	if err != nil {
		w.t.Fatal(err)
	}
	sig := ed25519.Sign(machine, append([]byte(ledger.RecordDomain), record...))
	_, err = w.cluster.Client().Do(w.t.Context(), "node", "", ledger.KindJoin, ledger.Join{Statement: b, Seed: seed, Node: node, Record: record, RecordSig: [64]byte(sig)})
	return authority.PublicKey(machine), err
}

func TestInvites(t *testing.T) {
	w := newWorld(t)
	if err := w.call("POST", "/invites", url.Values{"role": {"witness"}}, nil); err == nil || !strings.Contains(err.Error(), "signed by an operator") {
		t.Errorf("an invite for a voter without a signature: %v", err)
	}
	var m made
	if err := w.sign(operator.Invite, "POST", "/invites", url.Values{"role": {"witness"}, "ttl": {"600"}}, &m); err != nil {
		t.Fatal(err)
	}
	if _, err := w.join(m.Token, "w", "vps"); err != nil {
		t.Errorf("join: %v", err)
	}
	if _, err := w.join(m.Token, "x", "vps"); err == nil {
		t.Error("a token was good twice")
	}
	if m := All(w.cluster, false); len(m) != 2 || m[1].Name != "w" || !m[1].MayVote || !m[1].Signed {
		t.Errorf("members are %+v", m)
	}
	if a := Advice(w.cluster); !strings.Contains(a, "witness") {
		t.Errorf("advice for two sites: %q", a)
	}
	var plain made
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}, "uses": {"2"}}, &plain); err != nil {
		t.Fatal(err)
	}
	if err := w.call("DELETE", "/invites/"+plain.ID, nil, nil); err != nil {
		t.Error(err)
	}
	if _, err := w.join(plain.Token, "r", "x"); err == nil {
		t.Error("a revoked token was good")
	}
	var list []Invite
	if err := w.call("GET", "/invites", nil, &list); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	var third made
	if err := w.sign(operator.Invite, "POST", "/invites", url.Values{}, &third); err != nil {
		t.Fatal(err)
	}
	if err := w.sign(operator.Revoke, "DELETE", "/invites/"+third.ID, url.Values{}, nil); err != nil {
		t.Error(err)
	}
	if key := mustParse(t, third.Token).Key(); true {
		if _, is := w.cluster.Roster().Chain().Grant(authority.PublicKey(key)); is {
			t.Error("the grant of a revoked invite stays")
		}
	}
}

func mustParse(t *testing.T, text string) invite.Token {
	token, err := invite.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRemoveAndEject(t *testing.T) {
	w := newWorld(t)
	var signed, plain made
	if err := w.sign(operator.Invite, "POST", "/invites", url.Values{"role": {"full"}}, &signed); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}}, &plain); err != nil {
		t.Fatal(err)
	}
	full, err := w.join(signed.Token, "dc", "dc")
	if err != nil {
		t.Fatal(err)
	}
	replica, err := w.join(plain.Token, "attic", "attic")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.call("DELETE", "/members/home", url.Values{}, nil); err == nil {
		t.Error("a node removes itself")
	}
	if err := w.sign(operator.Remove, "DELETE", "/members/dc", url.Values{}, nil); err == nil || !strings.Contains(err.Error(), "drained") {
		t.Errorf("remove without draining: %v", err)
	}
	if err := w.call("PUT", "/members/dc", url.Values{"state": {"draining"}}, nil); err != nil {
		t.Error(err)
	}
	if err := w.call("PUT", "/members/dc", url.Values{"state": {"active"}}, nil); err != nil {
		t.Error(err)
	}
	if err := w.call("PUT", "/members/dc", url.Values{"state": {"draining"}}, nil); err != nil {
		t.Error(err)
	}
	if err := w.sign(operator.Remove, "DELETE", "/members/dc", url.Values{}, nil); err != nil {
		t.Error(err)
	}
	if w.cluster.Roster().Member(full.NodeID()) == nil {
		t.Error("a node that was removed is a member")
	}
	// The other one is cut off before anything is signed, and is in no link yet.
	w.cut = 0
	if err := w.call("DELETE", "/members/attic", url.Values{"eject": {"1"}, "draft": {"1"}}, nil); err != nil {
		t.Error(err)
	}
	if w.cluster.Roster().Member(replica.NodeID()) == nil || w.cut != 1 {
		t.Errorf("it is a member still, or was not cut off: %d", w.cut)
	}
	for range 2 { // named, then removed
		if err := w.sign(operator.Remove, "DELETE", "/members/attic", url.Values{"eject": {"1"}}, nil); err != nil {
			t.Error(err)
		}
	}
	if m := All(w.cluster, false); len(m) != 1 {
		t.Errorf("members are %+v", m)
	}
	if err := w.sign(operator.Recover, "POST", "/recover", url.Values{}, nil); err == nil || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("a recovery with a quorum: %v", err)
	}
}

// Two of three operators change who they are: it waits, everybody is told, and the
// third, whose key was not asked for, stops it alone.
func TestOperatorsWaitAndAreVetoed(t *testing.T) {
	w := newWorld(t)
	var keys []ed25519.PrivateKey
	var ids []string
	for i := range 4 {
		key, err := keyfile.Make(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			key = w.operator
		}
		keys, ids = append(keys, key), append(ids, operator.Name(key))
	}
	do := func(action, method string, params url.Values, into any, by ...ed25519.PrivateKey) error {
		t.Helper()
		var d operator.Draft
		if err := w.call(method, "/operators", params, &d); err != nil {
			return err
		}
		d.Voices = operator.Voices{} // whoever signs could leave them out: the daemon decides
		link, _, err := d.Sign(action, by...)
		if err != nil {
			t.Fatal(err)
		}
		params.Set("link", link)
		return w.call(method, "/operators", params, into)
	}
	set := func(names []string, by ...ed25519.PrivateKey) (o Operators) {
		t.Helper()
		if err := do(operator.Signers, "POST", url.Values{"operator": names, "threshold": {"2"}}, &o, by...); err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := set(ids[:3], keys[:3]...); o.Counts != "" || len(o.Operators) != 3 || o.Threshold != 2 {
		t.Fatalf("all have signed: %+v", o)
	}
	if list := Waiting(w.cluster, "home"); len(list) != 0 {
		t.Errorf("nothing waits: %v", list)
	}
	o := set(ids[2:], keys[1], keys[2], keys[3])
	due, err := time.Parse(time.RFC3339, o.Counts)
	if err != nil || len(o.Operators) != 3 || len(o.Next) != 2 || len(o.SignedBy) != 2 || time.Until(due).Round(time.Hour) != authority.Delay {
		t.Errorf("%+v, %v", o, err)
	}
	list := Waiting(w.cluster, "home")
	if len(list) != 1 {
		t.Fatalf("%v", list)
	}
	text, hint := list[0].Text, list[0].Hint
	if !strings.Contains(text, o.Counts) || !strings.Contains(text, ids[1]) || !strings.Contains(text, "2 of 3") || !strings.Contains(hint, "holdfast operator veto") {
		t.Errorf("%s\n%s", text, hint)
	}
	link := w.cluster.View().Chain().EnactLink()
	if _, err := w.cluster.Client().Do(t.Context(), "op@pbs", "", ledger.KindAuthority, ledger.Link{Link: link}); err == nil || !strings.Contains(err.Error(), "waits until") {
		t.Errorf("it counts when somebody says so: %v", err)
	}
	if err := w.cluster.Roster().Extend([][]byte{link}); err != nil {
		t.Error(err)
	}
	if now, _ := w.cluster.Chain().Operators(); len(now) != 3 {
		t.Errorf("it counts when a peer says so: %v", now)
	}
	if err := do(operator.Veto, "DELETE", url.Values{}, nil, keys[3]); err == nil || !strings.Contains(err.Error(), "none of the operators") {
		t.Errorf("a veto by who is to be one: %v", err)
	}
	if err := do(operator.Veto, "DELETE", url.Values{}, nil, keys[0]); err != nil {
		t.Fatal(err)
	}
	if err := do(operator.Veto, "DELETE", url.Values{}, nil, keys[0]); err == nil || !strings.Contains(err.Error(), "no change of operators waits") {
		t.Errorf("a veto of nothing: %v", err)
	}
	if list := Waiting(w.cluster, "home"); len(list) != 0 {
		t.Errorf("it waits after the veto: %v", list)
	}
}

// What the daemon drafts is not signed if it is not what was asked for.
func TestDraftOfSomethingElse(t *testing.T) {
	w := newWorld(t)
	chain := w.cluster.Roster().Chain()
	thief := authority.PublicKey(w.operator)
	d := operator.NewDraft(chain, authority.Operators, authority.OperatorsBody{Operators: []authority.Key{thief}, Threshold: 1})
	for _, action := range []string{operator.Invite, operator.Revoke, operator.Change, operator.Remove, operator.Recover, ""} {
		if _, _, err := d.Sign(action, w.operator); err == nil {
			t.Errorf("it was signed as %s", action)
		}
	}
	grant := operator.NewDraft(chain, authority.AddGrant, authority.Grant{Key: thief, Role: "full", Uses: 20, Expires: time.Now().Unix()})
	if _, _, err := grant.Sign(operator.Remove, w.operator); err == nil {
		t.Error("an invite was signed as a removal")
	}
	if _, what, err := grant.Sign(operator.Invite, w.operator); err != nil || !strings.Contains(what, "20 nodes join as full") {
		t.Errorf("%q, %v", what, err)
	}
}

// A joiner was named with the ID of another member, and `member eject ID` and `node
// block ID` hit the joiner.
func TestIDBeforeName(t *testing.T) {
	w := newWorld(t)
	var plain made
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}}, &plain); err != nil {
		t.Fatal(err)
	}
	if _, err := w.join(plain.Token, w.cluster.Self(), "x"); err != nil { // a member of an older version lets it in
		t.Fatal(err)
	}
	var m Member
	if err := w.call("GET", "/members/"+w.cluster.Self(), nil, &m); err != nil || !m.Self || m.Name != "home" {
		t.Errorf("%+v, %v", m, err)
	}
}

// An invite for a site with a line break in its name was made, and signed, and nobody
// could join with it.
func TestInviteForNoSite(t *testing.T) {
	w := newWorld(t)
	for site, good := range map[string]bool{"dc": true, "dc-2": true, "d\nc": false, "d\x1bc": false, "a b": false, "-": false} {
		for _, role := range []string{"replica", "full"} {
			err := w.call("POST", "/invites", url.Values{"role": {role}, "site": {site}, "draft": {"1"}}, nil)
			if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "site") {
				t.Errorf("%q as %s: %v", site, role, err)
			}
		}
	}
}

// One token lets several machines in only as what never votes.
func TestManyUses(t *testing.T) {
	w := newWorld(t)
	for role, good := range map[string]bool{"replica": true, "full": false, "witness": false, "cloud": false} {
		err := w.call("POST", "/invites", url.Values{"role": {role}, "uses": {"2"}, "draft": {"1"}}, nil)
		if (err == nil) != good {
			t.Errorf("two uses as %s: %v", role, err)
		}
	}
}

// A node was ejected at one that was cut off from all others, which said "member X is
// removed", and nothing else: the others went on to give it their backups.
func TestEjectSaysWhoHasHeard(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for _, name := range []string{"dc", "nas", "attic", "cellar"} {
		var m made
		if err := w.sign(operator.Invite, "POST", "/invites", url.Values{"role": {"full"}}, &m); err != nil {
			t.Fatal(err)
		}
		key, err := w.join(m.Token, name, "s")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, key.NodeID())
	}
	eject := func(name string) (r Removal) {
		t.Helper()
		if err := w.sign(operator.Remove, "DELETE", "/members/"+name, url.Values{"eject": {"1"}}, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := eject("dc"); r != (Removal{"dc", 3, 0, true}) {
		t.Errorf("nobody is connected: %+v", r)
	}
	asked := 0 // the second one is told a moment later; who was removed is not counted
	w.told = func() ([]string, int) {
		if asked++; asked < 3 {
			return []string{ids[0], ids[3]}, 1
		}
		return []string{ids[0], ids[3], ids[2]}, 0
	}
	if r := eject("nas"); r != (Removal{"nas", 2, 2, true}) || asked != 3 {
		t.Errorf("all are connected: %+v, asked %d times", r, asked)
	}
	w.told = func() ([]string, int) { return nil, 1 } // it never answers
	if r := eject("attic"); r != (Removal{"attic", 1, 0, true}) {
		t.Errorf("one does not answer: %+v", r)
	}
}

// Two operators were at work: what the second had drafted before the first was done was
// "not permitted: link 26 does not stand behind link 26", and nothing said what to do.
func TestWhatWasDraftedTooEarly(t *testing.T) {
	w := newWorld(t)
	var first, second made
	for _, m := range []*made{&first, &second} {
		if err := w.sign(operator.Invite, "POST", "/invites", url.Values{}, m); err != nil {
			t.Fatal(err)
		}
	}
	var d operator.Draft
	if err := w.call("DELETE", "/invites/"+first.ID, url.Values{"draft": {"1"}}, &d); err != nil {
		t.Fatal(err)
	}
	link, _, err := d.Sign(operator.Revoke, w.operator)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sign(operator.Revoke, "DELETE", "/invites/"+second.ID, url.Values{}, nil); err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest("DELETE", "/api2/json/holdfast/invites/"+first.ID+"?"+url.Values{"link": {link}}.Encode(), nil)
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, req)
	if body := rec.Body.String(); rec.Code == http.StatusOK || !strings.Contains(body, "something else was signed") || rec.Header().Get(rest.HintHeader) != operator.Again || !operator.Overtaken(errors.New(body)) {
		t.Errorf("%d %s, hint %q", rec.Code, body, rec.Header().Get(rest.HintHeader))
	}
	if err := w.sign(operator.Revoke, "DELETE", "/invites/"+first.ID, url.Values{}, nil); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// What members said that was not so, or not said at all: `member return` of one that was
// not drained said that it takes part again; status knew nothing of one that was drained,
// or blocked on this node; who was ejected was shown as blocked for ever.
func TestDrainedAndBlocked(t *testing.T) {
	w := newWorld(t)
	var plain made
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}, "uses": {"2"}}, &plain); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"attic", "dc"} {
		if _, err := w.join(plain.Token, name, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.call("PUT", "/members/attic", url.Values{"state": {"active"}}, nil); err == nil || !strings.Contains(err.Error(), `"attic" is not drained`) {
		t.Errorf("return of one that is not drained: %v", err)
	}
	if list := KeptOut(w.cluster, "home"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if err := w.call("POST", "/members/attic/block", url.Values{"reason": {"odd"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("DELETE", "/members/dc", url.Values{"eject": {"1"}, "draft": {"1"}}, nil); err != nil {
		t.Fatal(err)
	}
	list := KeptOut(w.cluster, "home")
	if len(list) != 2 || list[0].Text != "attic is kept out of this node: odd" || list[1].Text != "dc is kept out of this node: ejected" || !strings.Contains(list[0].Hint, "guard release --member attic") {
		t.Errorf("%+v", list)
	}
	for range 2 {
		if err := w.sign(operator.Remove, "DELETE", "/members/dc", url.Values{"eject": {"1"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if list := KeptOut(w.cluster, "home"); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	for _, m := range All(w.cluster, true) {
		if m.Blocked != (m.Name == "attic") {
			t.Errorf("%s, which is %s: blocked %t", m.Name, m.State, m.Blocked)
		}
	}
}

// A token that was burnt with wrong signatures was listed as open.
func TestBurntInvite(t *testing.T) {
	w := newWorld(t)
	var plain made
	if err := w.call("POST", "/invites", url.Values{"role": {"replica"}}, &plain); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		var list []Invite
		if err := w.call("GET", "/invites", nil, &list); err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0].State
	}
	forged := mustParse(t, plain.Token)
	forged.Seed[0] ^= 1
	text, err := forged.Text()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if got := state(); got != "open" {
			t.Errorf("after %d wrong signatures it is %s", i, got)
		}
		if _, err := w.join(text, "thief", "away"); err == nil {
			t.Fatal("it was let in")
		}
	}
	if got := state(); got != "burnt" {
		t.Errorf("it is of no use, and listed as %s", got)
	}
}
