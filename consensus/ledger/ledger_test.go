package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

func TestChangeComparesAndSets(t *testing.T) {
	w := newWorld(t)
	w.do(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{Comment: "cellar"}), Datastores.Put("main", 0, Datastore{Path: "/srv"})}})
	home, is := Sites.Get(w.l.View(), "home")
	if !is || home.Body.Comment != "cellar" || home.By != "op@pbs" || home.Version != w.index || !home.Created.Equal(w.l.View().At()) {
		t.Errorf("%+v", home)
	}
	w.want(w.try(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{})}}), Conflict, "there already")
	w.want(w.try(10, KindChange, Change{[]Op{Sites.Put("dc", 3, Site{})}}), Conflict, "not there any more")
	w.want(w.try(10, KindChange, Change{[]Op{Sites.Delete("dc", 0)}}), Conflict, "not there")
	w.do(10, KindChange, Change{[]Op{Sites.Put("home", home.Version, Site{Comment: "attic"})}})
	w.want(w.try(10, KindChange, Change{[]Op{Datastores.Put("two", 0, Datastore{}), Sites.Put("home", home.Version, Site{})}}), Conflict, "op@pbs changed it")
	if _, is := Datastores.Get(w.l.View(), "two"); is {
		t.Error("a part of a refused change is there")
	}
	now, _ := Sites.Get(w.l.View(), "home")
	if now.Body.Comment != "attic" || !now.Created.Equal(home.Created) || !now.Changed.After(home.Changed) {
		t.Errorf("%+v", now)
	}
	w.do(10, KindChange, Change{[]Op{Sites.Delete("home", now.Version)}})
	if n := w.l.View().Count(Sites.number); n != 0 {
		t.Errorf("%d sites", n)
	}
	w.want(w.try(10, KindChange, Change{[]Op{{Table: Members.number, Key: "x", Body: canon.Encode(Member{})}}}), Forbidden, "not changed like this")
	w.want(w.try(10, KindChange, Change{}), Refused, "0 changes")
}

func TestWhoMayGiveCommands(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "replica-1", "dc", "replica", false)
	change := Change{[]Op{Sites.Put("s", 0, Site{})}}
	w.want(w.try(12, KindChange, change), Forbidden, "no active member")
	w.want(w.try(11, KindChange, change), Forbidden, `role "replica"`)
	w.want(w.apply(w.command(10, KindChange, change).Sign(private(11))), Forbidden, "not signed by the node")
	for _, wrong := range []func(*Command){func(c *Command) { c.Cluster[0]++ }, func(c *Command) { c.Incarnation++ }, func(c *Command) { c.Incarnation-- }} {
		c := w.command(10, KindChange, change)
		wrong(&c)
		w.want(w.apply(c.Sign(private(10))), Forbidden, "is for incarnation")
	}
	w.do(10, KindAuthority, Link{w.draft(authority.RemoveNode, authority.Removal{Key: public(11)})})
	w.want(w.try(11, KindSession, OpenSession{1}), Forbidden, "no active member")
	w.do(10, KindAuthority, Link{w.draft(authority.Recover, authority.Recovery{Incarnation: 2, Base: public(10), Reason: "x"})})
	old := w.command(10, KindChange, change)
	old.Incarnation = 1
	w.want(w.apply(old.Sign(private(10))), Forbidden, "is for incarnation 1")
	w.do(10, KindChange, change)
}

func TestSameRequestHasOneResult(t *testing.T) {
	w := newWorld(t)
	b := w.command(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{})}}).Sign(private(10))
	first := w.apply(b)
	if again := w.apply(b); again != first || first.Code != Done || first.Index != w.index-1 {
		t.Errorf("first %+v, again %+v", first, again)
	}
	refused := w.command(10, KindChange, Change{[]Op{Sites.Put("home", 0, Site{})}}).Sign(private(10))
	first = w.apply(refused)
	home, _ := Sites.Get(w.l.View(), "home")
	w.do(10, KindChange, Change{[]Op{Sites.Delete("home", home.Version)}})
	if again := w.apply(refused); again != first { // though it would work now
		t.Errorf("first %+v, again %+v", first, again)
	}
	w.restart()
	if again := w.apply(b); again.Code != Done || again.Index == w.index {
		t.Errorf("after a restart: %+v", again)
	}
	for i := range maxAudit + 10 {
		w.do(10, KindSession, OpenSession{uint64(i + 1)})
	}
	if n := w.l.View().Count(Audits.number); n != maxAudit {
		t.Errorf("%d commands are remembered", n)
	}
	if forgotten := w.apply(b); forgotten.Code != Done || forgotten.Index != w.index { // the site was deleted
		t.Errorf("after %d others: %+v", maxAudit, forgotten)
	}
}

// restart goes through a snapshot.
func (w *world) restart() {
	w.t.Helper()
	b := w.l.View().encode()
	l := New(nil)
	if err := errors.Join(w.l.Verify(b), l.Restore(b)); err != nil {
		w.t.Fatal(err)
	}
	if l.View().Hash() != w.l.View().Hash() {
		w.t.Fatal("a state differs behind its snapshot")
	}
	w.l = l
}

func TestUnknownCommands(t *testing.T) {
	w := newWorld(t)
	before := w.l.View().Hash()
	c := w.command(10, 999, Change{})
	odd := w.command(10, KindChange, map[int]int{1: 1})
	late := w.command(10, KindLevel, RaiseLevel{Level + 1})
	table := w.command(10, KindChange, Change{[]Op{{Table: 200, Key: "x", Body: []byte{0xa0}}}})
	field := w.command(10, KindChange, Change{[]Op{{Table: Sites.number, Key: "x", Body: []byte{0xa1, 0x18, 0x63, 1}}}})
	for i, b := range [][]byte{nil, {1}, c.Sign(private(10)), odd.Sign(private(10)), late.Sign(private(10)), table.Sign(private(10)), field.Sign(private(10))} {
		if _, err := w.l.Apply(w.index+1, w.now, b); !errors.Is(err, ErrUnknown) {
			t.Errorf("command %d: %v", i, err)
		}
		if err := w.l.Check(b); !errors.Is(err, ErrUnknown) {
			t.Errorf("command %d is let into the log: %v", i, err)
		}
	}
	if w.l.View().Hash() != before {
		t.Error("an unknown command has changed something")
	}
	skip := w.command(10, 999|ignorable, Change{})
	w.want(w.apply(skip.Sign(private(10))), Skipped, "")
}

func TestTimeOnlyGoesOn(t *testing.T) {
	w := newWorld(t)
	at := w.l.View().At()
	w.now = w.now.Add(-24 * time.Hour)
	w.do(10, KindSession, OpenSession{1})
	if now := w.l.View().At(); now.Sub(at) != time.Millisecond {
		t.Errorf("it went by %s when a leader's clock went back a day", now.Sub(at))
	}
}

func TestAuditNamesWhoDidWhat(t *testing.T) {
	w := newWorld(t)
	c := w.command(10, KindChange, Change{[]Op{Users.Put("op@pbs", 0, User{})}})
	c.Actor, c.Address = "root@pam", "192.0.2.7"
	w.apply(c.Sign(private(10)))
	w.try(10, KindChange, Change{[]Op{Users.Put("op@pbs", 0, User{})}})
	var list []Audit
	for _, a := range Audits.All(w.l.View()) {
		list = append(list, a.Body)
	}
	n := len(list)
	a := list[n-2]
	if a.Actor != "root@pam" || a.Address != "192.0.2.7" || a.Node != public(10) || a.Kind != KindChange || a.Subject != "users/op@pbs" || a.Result.Code != Done {
		t.Errorf("%+v", a)
	}
	if list[n-1].Result.Code != Conflict || list[n-1].Root != w.l.View().AuditRoot() {
		t.Errorf("%+v", list[n-1])
	}
	if err := CheckAudit(list); err != nil {
		t.Error(err)
	}
	for i := range list[1:] {
		bad := slices.Clone(list)
		bad[i+1].Actor = "nobody"
		if CheckAudit(bad) == nil || CheckAudit(slices.Delete(slices.Clone(list), i, i+1)) == nil && i > 0 {
			t.Errorf("a changed or missing record %d is not noticed", i)
		}
	}
}

func TestClaims(t *testing.T) {
	w := newWorld(t)
	w.addNode(11, "dc-1", "dc", "full", true)
	want := func(node byte, slot int64, epoch uint64, code Code, text string) Result {
		t.Helper()
		r := w.try(node, KindClaim, NewClaim{Job: "gc", Slot: slot, Epoch: epoch})
		w.want(r, code, text)
		return r
	}
	want(10, 100, 1, Refused, "not open")
	w.do(10, KindSession, OpenSession{1})
	w.do(11, KindSession, OpenSession{5})
	w.want(w.try(11, KindSession, OpenSession{5}), Conflict, "later one")
	a := want(10, 100, 1, Done, "")
	want(11, 100, 5, Conflict, "does it")
	want(11, 200, 5, Conflict, "does it")
	w.do(10, KindExpire, ExpireSession{public(10), 1})
	w.want(w.try(10, KindExpire, ExpireSession{public(10), 1}), Conflict, "not open")
	b := want(11, 100, 5, Done, "")
	if b.Fence == nil || a.Fence == nil || b.Fence.Compare(*a.Fence) <= 0 {
		t.Errorf("fences %v and %v", a.Fence, b.Fence)
	}
	w.want(w.try(10, KindEnd, EndClaim{"gc", 100, *a.Fence, Ended}), Conflict, "superseded")
	w.do(11, KindEnd, EndClaim{"gc", 100, *b.Fence, Ended})
	want(11, 100, 5, Conflict, "was done")
	for slot := int64(200); slot < 200+maxRuns+9; slot++ {
		r := want(11, slot, 5, Done, "")
		w.do(11, KindEnd, EndClaim{"gc", slot, *r.Fence, Failed})
	}
	want(11, 200+maxRuns+8, 5, Done, "") // a failed slot may be tried again
	if n := w.l.View().Count(Claims.number); n != maxRuns {
		t.Errorf("%d claims are kept", n)
	}
	w.do(11, KindSession, OpenSession{6}) // it restarted: what it did is lost
	old := want(11, 999, 6, Done, "")
	w.do(11, KindSession, OpenSession{7})
	again := want(11, 999, 7, Done, "")
	w.want(w.try(11, KindEnd, EndClaim{"gc", 999, *old.Fence, Ended}), Conflict, "superseded") // of the life before
	w.do(11, KindEnd, EndClaim{"gc", 999, *again.Fence, Ended})
	w.do(10, KindChange, Change{[]Op{Jobs.Put("prune", 0, Job{Kind: "prune", Node: public(10).NodeID()})}})
	w.want(w.try(11, KindClaim, NewClaim{Job: "prune", Slot: 1, Epoch: 7}), Refused, "belongs to")
}

func TestCheckpointsCatchTwoHistories(t *testing.T) {
	w := newWorld(t)
	point := func(seq uint64, head byte, by byte) NewCheckpoint {
		c := Checkpoint{Epoch: 1, Seq: seq, Head: [32]byte{head}}
		sig := private(by)
		copy(c.Sig[:], edSign(sig, CheckpointBytes(c.Epoch, c.Seq, c.Head)))
		return NewCheckpoint{public(10), c}
	}
	w.want(w.try(10, KindCheckpoint, point(5, 1, 11)), Forbidden, "not signed")
	w.do(10, KindCheckpoint, point(5, 1, 10))
	w.do(10, KindCheckpoint, point(5, 1, 10))
	w.want(w.try(10, KindCheckpoint, point(5, 2, 10)), Conflict, "two histories")
	w.want(w.try(10, KindCheckpoint, point(4, 1, 10)), Conflict, "later one")
}

func TestWaitWakesForItsTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := w.l.View()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan string)
		go func() {
			v, err := w.l.Wait(ctx, v, Sites, Jobs)
			done <- fmt.Sprint(v.Count(Jobs.number), err)
		}()
		w.do(10, KindChange, Change{[]Op{Remotes.Put("r", 0, Remote{})}})
		synctest.Wait()
		select {
		case got := <-done:
			t.Fatalf("another table woke it: %s", got)
		default:
		}
		w.do(10, KindChange, Change{[]Op{Jobs.Put("j", 0, Job{})}})
		if got := <-done; got != "1 <nil>" {
			t.Error(got)
		}
		v = w.l.View()
		if _, err := w.l.Wait(ctx, v, Jobs); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing happens: %v", err)
		}
		go func() { // a snapshot that brings something new
			other := newWorld(t)
			other.do(10, KindChange, Change{[]Op{Sites.Put("x", 0, Site{}), Jobs.Put("j", 0, Job{})}})
			if err := w.l.Restore(other.l.View().encode()); err != nil {
				t.Error(err)
			}
		}()
		if v, err := w.l.Wait(t.Context(), v, Sites); err != nil || v.Count(Sites.number) != 1 {
			t.Error(err)
		}
	})
}

// Just after it had joined, a node was told that its command was "for incarnation 0 of
// cluster 00000000".
func TestNoCommandBeforeAnythingWasHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		state, sent := w.l.View().encode(), 0
		l := New(nil)
		c := Client{Key: private(10), Ledger: l, Submit: func(_ context.Context, b []byte) ([]byte, error) {
			sent++
			return w.l.Apply(100, begun, b)
		}}
		if _, err := c.Do(t.Context(), "root@pam", "", KindState, SetState{}); !errors.Is(err, ErrNotYet) || sent > 0 {
			t.Errorf("%v, and it is sent %d times", err, sent)
		}
		go func() { // it hears while a command waits
			time.Sleep(hearTime / 2)
			if err := l.Restore(state); err != nil {
				t.Error(err)
			}
		}()
		if _, err := c.Do(t.Context(), "root@pam", "", KindState, SetState{Node: public(10), State: Draining}); err != nil || sent != 1 {
			t.Errorf("%v, and it is sent %d times", err, sent)
		}
	})
}
