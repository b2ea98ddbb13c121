package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A world is the ledger of a cluster: operator 1, node 10.
type world struct {
	t     *testing.T
	l     *ledger.Ledger
	index uint64
}

var begun = time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	w := &world{t: t, l: ledger.New(nil), index: 3}
	genesis := authority.GenesisBody{Cluster: [16]byte{7}, Operators: []authority.Key{authority.PublicKey(key(1))}, Threshold: 1}
	w.do("node", "", ledger.KindAuthority, ledger.Link{Link: authority.Found(genesis, key(1))})
	chain := w.l.View().Chain()
	home := authority.Node{Key: authority.PublicKey(key(10)), Name: "home-1", Site: "home", Role: "full", Votes: true}
	w.do("root@pam", "local", ledger.KindAuthority, ledger.Link{Link: chain.Sign(chain.Draft(authority.AddNode, home), key(1))})
	return w
}

// do has node 10 give a command; each third index is not one of a command.
func (w *world) do(actor, address string, kind uint16, body any) ledger.Code {
	w.t.Helper()
	w.index += 1 + w.index%3/2
	c := ledger.Command{Kind: kind, Request: ledger.NewRequest(), Actor: actor, Address: address, Node: authority.PublicKey(key(10)), Cluster: [16]byte{7}, Incarnation: 1, Body: canon.Encode(body)}
	b, err := w.l.Apply(w.index, begun.Add(time.Duration(w.index)*time.Minute), c.Sign(key(10)))
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := ledger.ReadResult(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Code
}

func (w *world) put(actor string, ops ...ledger.Op) ledger.Code {
	w.t.Helper()
	return w.do(actor, "192.0.2.7:4711", ledger.KindChange, ledger.Change{Ops: ops})
}

// history is what people did, and what nodes did between.
func history(t *testing.T) *world {
	w := newWorld(t)
	w.do("node", "", ledger.KindSession, ledger.OpenSession{Epoch: 1})
	w.put("alice@pbs", ledger.Sites.Put("home", 0, ledger.Site{}), ledger.Settings.Put("accounts", 0, ledger.Setting{}))
	w.put("node", ledger.Settings.Put("notices/x", 0, ledger.Setting{}))
	w.put("alice@pbs!ci", ledger.ACL.Put("/system\x00bob@pbs\x00Audit", 0, access.ACLEntry{Path: "/system", ID: "bob@pbs", Role: "Audit"}))
	w.put("alice@pbs2", ledger.Sites.Put("dc", 0, ledger.Site{}))
	w.put("carol@pbs", ledger.Datastores.Put(authority.PublicKey(key(10)).NodeID()+"/main", 0, ledger.Datastore{Node: authority.PublicKey(key(10)).NodeID()}))
	if c := w.put("bob@pbs", ledger.Sites.Put("home", 0, ledger.Site{})); c != ledger.Conflict {
		t.Fatal(c)
	}
	return w
}

func whats(l Log) (all []string) {
	for _, r := range l.Records {
		all = append(all, r.Actor+" "+r.What)
	}
	return all
}

func TestWhatWasChangedLast(t *testing.T) {
	w := history(t)
	log := read(w.l.View(), filter{limit: 4})
	want := []string{"alice@pbs!ci change acl//system bob@pbs Audit", "alice@pbs2 change sites/dc", "carol@pbs change datastores/home-1/main", "bob@pbs change sites/home"}
	if got := whats(log); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	last := log.Records[3]
	if last.Result != "conflict" || !strings.Contains(last.Why, "sites/home: it is there already") || last.Address != "192.0.2.7:4711" || last.NodeName != "home-1" ||
		last.Time != begun.Add(time.Duration(w.index)*time.Minute).Unix() || last.Index != w.index || last.Kind != "change" {
		t.Errorf("%+v", last)
	}
	if l := log.Ledger; l.Records != 9 || l.Broken != "" || l.Last != w.index || l.Root != last.Root {
		t.Errorf("%+v", l)
	}
	older := read(w.l.View(), filter{limit: 3, before: log.Before})
	if got := whats(older); len(got) != 3 || !strings.HasPrefix(got[0], "node found a cluster; signed by 12D3") ||
		!strings.HasPrefix(got[1], `root@pam make node "home-1" at site "home" (home-1) full`) || got[2] != "alice@pbs change sites/home" || older.Before != 0 {
		t.Errorf("the page before: %q, %d", got, older.Before)
	}
	for _, c := range []struct {
		filter
		want int
	}{
		{filter{}, 7}, {filter{all: true}, 9}, {filter{subject: "datastores/home-1/"}, 1}, {filter{actor: "alice@pbs"}, 2}, {filter{subject: "sites/"}, 3}, {filter{subject: "home"}, 0},
		{filter{kind: "session"}, 1}, {filter{kind: "join"}, 0}, {filter{node: "home-1"}, 7}, {filter{node: authority.PublicKey(key(10)).NodeID()}, 7}, {filter{node: "dc"}, 0},
	} {
		c.limit = MaxLimit
		if got := read(w.l.View(), c.filter); len(got.Records) != c.want || got.Partial != (c.want > 1 && c.want < 9 && c.subject == "" || c.subject == "sites/") {
			t.Errorf("%+v: %d records, partial: %t; want %d", c.filter, len(got.Records), got.Partial, c.want)
		}
	}
}

// saved is a log as it is read from a file.
func saved(t *testing.T, w *world, f filter) (l Log) {
	t.Helper()
	b, err := json.Marshal(read(w.l.View(), f))
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestVerify(t *testing.T) {
	w := history(t)
	whole := saved(t, w, filter{limit: MaxLimit, all: true})
	v, err := Verify(whole)
	if err != nil || v.Records != 9 || v.First != whole.Ledger.First || v.Last != w.index || !v.Oldest || v.Root != whole.Ledger.Root {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := Verify(saved(t, w, filter{limit: 4, all: true})); err != nil || v.Records != 4 || !v.Oldest {
		t.Errorf("the newest four: %+v, %v", v, err)
	}
	if _, err := Verify(saved(t, w, filter{limit: 7})); err == nil || !strings.Contains(err.Error(), "some left out") {
		t.Errorf("with some left out: %v", err)
	}
	// What is not said behind which root it stands proves nothing of the oldest.
	cut := whole
	cut.Previous, cut.Records = "", whole.Records[2:]
	if v, err := Verify(cut); err != nil || v.Oldest {
		t.Errorf("without the root before: %+v, %v", v, err)
	}
	forge := func(r *Record, change func(*ledger.Audit)) {
		b, _ := base64.StdEncoding.DecodeString(r.Record)
		a, err := ledger.ReadAudit(b)
		if err != nil {
			t.Fatal(err)
		}
		change(&a)
		what, name := r.What, r.NodeName
		*r = said(a)
		r.What, r.NodeName = what, name
	}
	for name, change := range map[string]func(*Log){
		"another actor in a record":  func(l *Log) { forge(&l.Records[4], func(a *ledger.Audit) { a.Actor = "eve@pbs" }) },
		"in the oldest":              func(l *Log) { forge(&l.Records[0], func(a *ledger.Audit) { a.Actor = "eve@pbs" }) },
		"in the newest":              func(l *Log) { forge(&l.Records[8], func(a *ledger.Audit) { a.Result.Code = ledger.Done }) },
		"what is shown":              func(l *Log) { l.Records[4].Actor = "eve@pbs" },
		"the time that is shown":     func(l *Log) { l.Records[4].Time++ },
		"one missing in the middle":  func(l *Log) { l.Records = slices.Delete(l.Records, 3, 4) },
		"two that changed places":    func(l *Log) { l.Records[3], l.Records[4] = l.Records[4], l.Records[3] },
		"the oldest missing":         func(l *Log) { l.Records = l.Records[1:] },
		"one twice":                  func(l *Log) { l.Records = slices.Insert(l.Records, 3, l.Records[3]) },
		"no record":                  func(l *Log) { l.Records[2].Record = "" },
		"a byte behind a record":     func(l *Log) { l.Records[2].Record = base64.StdEncoding.EncodeToString([]byte{0xa0, 0}) },
		"a root before that was not": func(l *Log) { l.Previous = strings.Repeat("ab", 32) },
	} {
		l := saved(t, w, filter{limit: MaxLimit, all: true})
		change(&l)
		if v, err := Verify(l); err == nil {
			t.Errorf("%s: not noticed: %+v", name, v)
		} else if hint := err.(interface{ Hint() string }).Hint(); !strings.Contains(err.Error(), "broken") || !strings.Contains(hint, Save) {
			t.Errorf("%s: %v; %s", name, err, hint)
		}
	}
	if _, err := Verify(Log{}); err == nil {
		t.Error("nothing is proven by nothing")
	}
}

// What a command is about is cut, also in a letter: JSON has no such text, and the
// record has to be the same for who reads the file.
func TestVerifyWhatWasCutInALetter(t *testing.T) {
	w := newWorld(t)
	var ops []ledger.Op
	for i := range 14 {
		ops = append(ops, ledger.Sites.Put(fmt.Sprintf("%02d-üüüüüüüüüü@pbs", i), 0, ledger.Site{}))
	}
	w.put("root@pam", ops...)
	log := saved(t, w, filter{limit: MaxLimit, all: true})
	if s := log.Records[2].Subject; !strings.HasSuffix(s, "\ufffd") {
		t.Fatalf("%q", s)
	}
	if v, err := Verify(log); err != nil || v.Records != 3 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A file whose newest records were cut off was found to be whole, though it said itself
// how far the ledger went; and nothing told how to find it if it did not.
func TestVerifyWithoutTheNewest(t *testing.T) {
	w := history(t)
	whole := saved(t, w, filter{limit: MaxLimit, all: true})
	cut := whole
	cut.Records = whole.Records[:7]
	if v, err := Verify(cut); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("ends with command %d", whole.Records[6].Index)) || !strings.Contains(err.Error(), fmt.Sprint(w.index)) {
		t.Errorf("cut: %+v, %v", v, err)
	}
	cut.Ledger.Last, cut.Ledger.Root = whole.Records[6].Index, whole.Records[6].Root // and made to fit
	v, err := Verify(cut)
	if err != nil {
		t.Fatal(err)
	}
	head := whole.Ledger.Root
	if err := v.Reaches(head); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("ends with command %d", v.Last)) {
		t.Errorf("it goes up to the head: %v", err)
	}
	if v, err = Verify(whole); err != nil || v.Reaches(head) != nil || v.Reaches(strings.ToUpper(whole.Records[6].Root)) != nil {
		t.Errorf("%v; the head: %v, one before it: %v", err, v.Reaches(head), v.Reaches(whole.Records[6].Root))
	}
	for _, bad := range []string{"", "x", head[1:], head + "00"} {
		if err := v.Reaches(bad); err == nil || !strings.Contains(err.Error(), "64 hexadecimal digits") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// With a key twice, a reader of the file saw one actor, and the other was compared.
func TestReadKeysTwice(t *testing.T) {
	text, err := json.Marshal(read(history(t).l.View(), filter{limit: MaxLimit, all: true}))
	if err != nil {
		t.Fatal(err)
	}
	if log, err := Read(text); err != nil || len(log.Records) != 9 {
		t.Fatalf("%d records, %v", len(log.Records), err)
	}
	if log, err := Read([]byte(`{"data":[]}`)); err != nil || len(log.Records) != 0 {
		t.Errorf("%+v, %v", log, err)
	}
	for _, twice := range []string{`"actor":"eve@pbs","actor":`, `"Actor":"eve@pbs","actor":`, `"\u0061ctor":"eve@pbs","actor":`} {
		forged := strings.Replace(string(text), `"actor":`, twice, 1)
		if _, err := Read([]byte(forged)); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", twice, err)
		}
	}
	for name, bad := range map[string]string{"records": `{"records":[],"records":[]}`, "more": string(text) + "{}", "half": string(text[:100]), "none": ""} {
		if _, err := Read([]byte(bad)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}
