package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// history applies random commands of every kind, some of which are refused.
func history(w *world, rng *rand.Rand, n int) {
	names := []string{"a", "b", "c", "home", "dc"}
	name := func() string { return names[rng.IntN(len(names))] }
	node := func() byte { return byte(10 + rng.IntN(4)) }
	for range n {
		v := w.l.View()
		switch rng.IntN(12) {
		case 0, 1:
			key := name()
			s, _ := Sites.Get(v, key)
			if rng.IntN(3) == 0 {
				w.try(node(), KindChange, Change{[]Op{Sites.Delete(key, s.Version)}})
			} else {
				w.try(node(), KindChange, Change{[]Op{Sites.Put(key, s.Version, Site{Labels: map[string]string{name(): name(), "z": "y"}})}})
			}
		case 2:
			w.try(node(), KindChange, Change{[]Op{Jobs.Put(name(), 0, Job{Kind: "gc", Eligible: []string{name()}}), Remotes.Put(name(), 0, Remote{Port: rng.IntN(9)})}})
		case 3:
			w.try(10, KindAuthority, Link{w.draft(authority.AddNode, authority.Node{Key: public(node()), Name: name(), Site: name(), Role: "full", Votes: rng.IntN(2) == 0})})
		case 4:
			if rng.IntN(3) == 0 {
				w.try(10, KindAuthority, Link{w.draft(authority.RemoveNode, authority.Removal{Key: public(node())})})
			}
		case 5:
			seed := byte(50 + rng.IntN(5))
			w.try(node(), KindInvite, NewInvite{Token: [8]byte{seed}, Invite: Invite{Key: public(seed), Role: "replica", Expires: w.now.Add(time.Minute).Unix(), Uses: 1 + rng.IntN(3)}})
		case 6:
			j := newJoiner(byte(50+rng.IntN(5)), byte(20+rng.IntN(9)))
			if rng.IntN(4) == 0 {
				j.seed++
			}
			w.try(10, KindJoin, j.join())
		case 7:
			w.try(node(), KindSession, OpenSession{uint64(rng.IntN(20))})
		case 8:
			w.try(10, KindExpire, ExpireSession{public(node()), uint64(rng.IntN(20))})
		case 9:
			n := node()
			s, _ := Sessions.Get(v, public(n).NodeID())
			w.try(n, KindClaim, NewClaim{Job: name(), Slot: int64(rng.IntN(4)), Epoch: s.Body.Epoch})
		case 10:
			for _, c := range Claims.All(v) {
				w.try(node(), KindEnd, EndClaim{c.Body.Job, c.Body.Slot, c.Body.Fence, Ended})
				break
			}
		case 11:
			if rng.IntN(10) == 0 {
				w.try(10, KindAuthority, Link{w.draft(authority.Recover, authority.Recovery{Incarnation: w.l.Incarnation() + 1, Base: public(10), Reason: "test"})})
			}
		}
	}
}

// The same commands give the same bytes, also behind a snapshot anywhere.
func TestEqualHistoriesAreEqualBytes(t *testing.T) {
	seeds := uint64(6)
	if os.Getenv("HOLDFAST_SOAK") != "" {
		seeds = 1000
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t)
		start := w.l.View().encode()
		first := w.index
		w.log = [][]byte{}
		history(w, rng, 300)
		again := &world{t: t, l: New(nil), now: begun.Add(time.Duration(first) * time.Second), index: first}
		if err := again.l.Restore(start); err != nil {
			t.Fatal(err)
		}
		cut := rng.IntN(len(w.log) + 1)
		for i, b := range w.log {
			if i == cut {
				again.restart()
			}
			again.apply(b)
		}
		if a, b := w.l.View().encode(), again.l.View().encode(); !bytes.Equal(a, b) {
			t.Fatalf("seed %d: two states after the same %d commands, with a snapshot behind %d", seed, len(w.log), cut)
		}
		var list []Audit
		for _, a := range Audits.All(w.l.View()) {
			list = append(list, a.Body)
		}
		if err := CheckAudit(list); err != nil {
			t.Error(err)
		}
		for key, i := range Invites.All(w.l.View()) {
			if i.Body.Uses < 0 || len(i.Body.Used) > 3 {
				t.Errorf("invite %s was used too often: %+v", key, i.Body)
			}
		}
	}
}

func TestHashesAreOfTheSameIndexes(t *testing.T) {
	w := newWorld(t)
	for range 2100 {
		w.try(10, KindSession, OpenSession{1})
	}
	h := w.l.Hashes()
	if len(h) != 2 || h[0].Index != 1000 || h[1].Index != 2000 || h[0].Sum == h[1].Sum {
		t.Errorf("%v", h)
	}
}

var update = flag.Bool("update", false, "write the newest recorded log anew; only for one that no program was released with")

// Logs that were once written are replayed with every later program, and have
// the result that they had.
func TestRecordedLogs(t *testing.T) {
	if *update {
		w := &world{t: t, l: New(nil), now: begun, log: [][]byte{}}
		w.found(2, 1, 2, 3)
		history(w, rand.New(rand.NewPCG(3, 1)), 60)
		w.proposals()
		w.ahead()
		var text strings.Builder
		for _, b := range w.log {
			if bytes.HasPrefix(b, []byte("+ ")) {
				fmt.Fprintf(&text, "%s\n", b)
			} else {
				fmt.Fprintf(&text, "%x\n", b)
			}
		}
		h := w.l.View().Hash()
		fmt.Fprintf(&text, "= %x\n", h)
		if err := os.WriteFile(filepath.Join("testdata", "log-level4.txt"), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/log-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded logs: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, l: New(nil), now: begun}
		for line := range strings.Lines(string(text)) {
			if want, is := strings.CutPrefix(strings.TrimSpace(line), "= "); is {
				if h := w.l.View().Hash(); hex.EncodeToString(h[:]) != want {
					t.Errorf("%s: the state is %x, it was %s", name, h, want)
				}
				continue
			}
			line = strings.TrimSpace(line)
			if days, is := strings.CutPrefix(line, "+ "); is { // so many pass
				n, err := strconv.Atoi(days)
				if err != nil {
					t.Fatal(err)
				}
				w.pass(n)
				continue
			}
			b, err := hex.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			w.apply(b)
		}
	}
}

// resum gives a changed snapshot a sum that matches.
func resum(b []byte) []byte {
	sum := canon.Sum(b[:len(b)-32])
	return append(b[:len(b)-32:len(b)-32], sum[:]...)
}

func TestSnapshotsOfLiars(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "dc-1", "dc", "replica", false)
	w.invited(50, 1, false)
	w.do(10, KindJoin, newJoiner(50, 20).join())
	w.do(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{})}})
	good := w.l.View().encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := w.l.Verify(bad); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("with byte %d changed it is good: %v", i, err)
		}
	}
	// lie builds a state that no log leads to, with all sums right.
	lie := func(change func(*tx)) []byte {
		l := New(nil)
		if err := l.Restore(good); err != nil {
			t.Fatal(err)
		}
		x := begin(l.now.Load().db, w.index, 0)
		change(x)
		x.commit()
		return l.View().encode()
	}
	member := func(key byte, change func(*Member)) func(*tx) {
		return func(x *tx) {
			m, _ := Members.Get(View{x.Txn}, public(key).NodeID())
			change(&m.Body)
			x.put(Members.number, public(key).NodeID(), canon.Encode(m.Body), "")
		}
	}
	tests := map[string]func(*tx){
		"a replica that votes":         member(11, func(m *Member) { m.Votes = true }),
		"another role":                 member(11, func(m *Member) { m.Role = "full" }),
		"an invited node that votes":   member(20, func(m *Member) { m.Votes = true }),
		"an invited node made full":    member(20, func(m *Member) { m.Role = "full" }),
		"a forged record":              member(20, func(m *Member) { m.Record = []byte("forged") }),
		"a member that is gone":        func(x *tx) { x.drop(Members.number, public(11).NodeID()) },
		"a stranger in the role full":  member(33, func(m *Member) { m.Role, m.State = "full", Active }),
		"an audit record that is gone": func(x *tx) { x.drop(Audits.number, auditKey(3)) },
		"an audit chain cut off":       func(x *tx) { x.drop(Audits.number, auditKey(w.index)) },
		"a row from the future":        func(x *tx) { x.meta.Index -= 3; x.put(Sites.number, "x", canon.Encode(Site{}), ""); x.meta.Index-- },
		"an older authority chain":     func(x *tx) { x.meta.chain, _ = authority.Read(x.meta.chain.Links(0)[:2]) },
	}
	for name, change := range tests {
		if err := w.l.Verify(lie(change)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := New(nil) // the same rows in another order
	x := begin(two.now.Load().db, 0, 0)
	x.put(Sites.number, "a", canon.Encode(Site{}), "")
	x.put(Sites.number, "b", canon.Encode(Site{}), "")
	x.commit()
	b := two.View().encode()
	head := len(b) - 32 - 2*len(appendRecord(nil, Sites.number, "a", canon.Encode(View{two.now.Load().db.Txn(false)}.row(Sites.number, "a").row)))
	mid := (head + len(b) - 32) / 2
	if err := New(nil).Verify(b); err != nil {
		t.Error(err)
	}
	swapped := resum(slices.Concat(b[:head], b[mid:len(b)-32], b[head:mid], b[len(b)-32:]))
	if err := New(nil).Verify(swapped); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("rows in another order: %v", err)
	}
	if err := w.l.Verify(lie(func(*tx) {})); err != nil {
		t.Errorf("the truth: %v", err)
	}
	other := newWorld(t) // another history of the same cluster
	other.addNode(12, "x", "x", "full", true)
	other.addNode(13, "y", "y", "full", true)
	if err := w.l.Verify(other.l.View().encode()); !errors.Is(err, ErrSnapshot) {
		t.Errorf("another authority chain: %v", err)
	}
	before := w.l.View().Hash()
	if err := w.l.Restore(resum(bytes.Replace(good, []byte("home-1"), []byte("home-2"), 1))); err == nil || w.l.View().Hash() != before {
		t.Errorf("a refused snapshot has changed the state: %v", err)
	}
}

func FuzzLedger(f *testing.F) {
	w := newWorld(f)
	w.do(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{})}})
	f.Add(w.l.View().encode())
	for kind, body := range map[uint16]any{KindChange: Change{[]Op{Sites.Put("x", 0, Site{})}}, KindJoin: newJoiner(50, 20).join(), KindSession: OpenSession{1}, 999 | ignorable: Link{}} {
		f.Add(w.command(10, kind, body).Sign(private(10)))
	}
	state := w.l.View().encode()
	f.Fuzz(func(t *testing.T, b []byte) {
		l := New(nil)
		if err := l.Restore(state); err != nil {
			t.Fatal(err)
		}
		before := l.View().Hash()
		if _, err := l.Apply(100, begun, b); err != nil && l.View().Hash() != before {
			t.Errorf("%x is not known and changes the state", b)
		}
		if err := l.Restore(l.View().encode()); err != nil {
			t.Errorf("behind %x the state cannot be restored: %v", b, err)
		}
		if len(b) > 40 { // get behind the sum
			b = resum(bytes.Clone(b))
		}
		if l.Verify(b) == nil {
			if err := l.Restore(b); err != nil || !bytes.Equal(l.View().encode(), b) {
				t.Errorf("a snapshot is written as %x, %v, and was read as %x", l.View().encode(), err, b)
			}
		}
		ReadResult(b)
	})
}

// A user was removed whose name has an umlaut, with all of their rights at once. What
// the audit says of such a command is cut at 300 bytes, which was in the middle of the
// letter: no snapshot was good any more, so that no node came up from its own, and
// whoever asked for the record brought the daemon down.
func TestAuditIsReadThatWasCutInALetter(t *testing.T) {
	w := newWorld(t)
	var ops []Op
	for i := range 14 {
		ops = append(ops, Sites.Put(fmt.Sprintf("%02d-üüüüüüüüüü@pbs", i), 0, Site{}))
	}
	c := Change{ops}
	if s := c.subject(); len(s) < 300 || utf8.ValidString(s[:300]) {
		t.Fatalf("%q is not cut in a letter", s)
	}
	b := w.command(10, KindChange, c).Sign(private(10))
	first := w.apply(b)
	if again := w.apply(b); again != first || first.Code != Done {
		t.Errorf("first %+v, again %+v", first, again)
	}
	sum := w.l.View().Hash()
	w.restart()
	if w.l.View().Hash() != sum {
		t.Error("it is another state after a restart")
	}
}
