package ledger

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

// signed tries a link that operators with these numbers have signed.
func (w *world) signed(kind uint8, body any, by ...byte) Result {
	w.t.Helper()
	var keys []ed25519.PrivateKey
	for _, n := range by {
		keys = append(keys, private(n))
	}
	c := w.l.View().Chain()
	return w.try(10, KindAuthority, Link{c.Sign(c.Draft(kind, body), keys...)})
}

// enact tries to have the change of a link count.
func (w *world) enact(seq uint64) Result {
	w.t.Helper()
	return w.signed(authority.Enact, authority.Waiting{Seq: seq})
}

// thief is what somebody with the keys of operators 1 and 2 wants.
var thief = authority.OperatorsBody{Operators: []authority.Key{public(9)}, Threshold: 1}

// are tells whether the operators are those with these numbers.
func (w *world) are(numbers ...byte) bool {
	var want []authority.Key
	for _, n := range numbers {
		want = append(want, public(n))
	}
	now, _ := w.l.View().Chain().Operators()
	return slices.Equal(now, want)
}

// newWorldOfThree has three operators of whom two sign, at the level of delays.
func newWorldOfThree(t testing.TB) *world {
	w := &world{t: t, l: New(nil), now: begun}
	w.found(2, 1, 2, 3)
	for level := uint64(2); level <= authority.LevelDelay; level++ {
		w.do(10, KindLevel, RaiseLevel{level})
	}
	return w
}

// proposals are what recorded logs have of changes that wait: refused before the
// level of delays, then vetoed, enacted too early and in time, and one that waits.
func (w *world) proposals() {
	w.t.Helper()
	for kind := authority.NewOperators; kind <= authority.Veto; kind++ {
		w.want(w.signed(kind, thief, 1, 2, 9), Forbidden, "does not know")
	}
	w.stalls(Refused, "does not end as")
	for level := w.l.View().Level() + 1; level <= authority.LevelDelay; level++ {
		w.do(10, KindLevel, RaiseLevel{level})
	}
	seq := func() uint64 { p, _ := w.l.View().Proposal(); return p.Seq }
	w.want(w.signed(authority.Operators, thief, 1, 2, 9), Forbidden, "not every operator")
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	w.want(w.enact(seq()), Refused, "waits until")
	w.want(w.signed(authority.Veto, authority.Waiting{Seq: seq()}, 3), Done, "")
	next := authority.OperatorsBody{Operators: []authority.Key{public(1), public(2), public(4)}, Threshold: 2}
	w.want(w.signed(authority.NewOperators, next, 1, 2, 4), Done, "")
	w.pass(6)
	w.want(w.enact(seq()), Refused, "waits until")
	w.pass(1)
	w.want(w.enact(seq()), Done, "")
	w.want(w.signed(authority.NewOperators, thief, 1, 4, 9), Done, "")
	w.stalls(Done, "")
}

// stalls is a run that its node leaves to others, who may have its slot then.
func (w *world) stalls(code Code, text string) {
	w.t.Helper()
	epoch := 1<<41 + w.n // greater than any before
	w.do(10, KindSession, OpenSession{epoch})
	f := w.do(10, KindClaim, NewClaim{Job: "stalls", Slot: 100, Epoch: epoch}).Fence
	w.want(w.try(10, KindEnd, EndClaim{"stalls", 100, *f, Stalled}), code, text)
	if code == Done {
		w.want(w.try(10, KindEnd, EndClaim{"stalls", 100, *f, Ended}), Conflict, "superseded")
		w.do(10, KindClaim, NewClaim{Job: "stalls", Slot: 100, Epoch: epoch})
	}
}

// With two of three keys, a thief was the only operator at once, and the third heard
// of it when it was too late.
func TestNewOperatorsWaitSevenDays(t *testing.T) {
	w := newWorldOfThree(t)
	w.want(w.signed(authority.Operators, thief, 1, 2, 9), Forbidden, "not every operator has signed")
	w.want(w.signed(authority.NewOperators, thief, 1, 2), Forbidden, "not every new operator")
	w.do(10, KindSession, OpenSession{1})
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	since := w.l.View().At()
	p, waits := w.l.View().Proposal()
	if !waits || !w.are(1, 2, 3) || !p.Since.Equal(since) || !p.Due.Equal(since.Add(7*24*time.Hour)) {
		t.Errorf("%v, %+v", waits, p)
	}
	w.want(w.enact(p.Seq), Refused, "waits until 2026-12-05")
	w.now = p.Due.Add(-3 * time.Second) // each command comes a second later
	w.want(w.enact(p.Seq), Refused, "waits until")
	w.want(w.enact(p.Seq+1), Refused, "waits until")
	if !w.are(1, 2, 3) {
		t.Fatal("it counts too early")
	}
	w.want(w.enact(p.Seq), Done, "") // at that second
	if _, waits := w.l.View().Proposal(); waits || !w.are(9) {
		t.Error("it does not count when its time has come")
	}
	w.want(w.enact(p.Seq), Forbidden, "no change of the operators")
}

func TestWhoDidNotSignMayVeto(t *testing.T) {
	w := newWorldOfThree(t)
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	p, _ := w.l.View().Proposal()
	w.want(w.signed(authority.NewOperators, thief, 2, 3, 9), Forbidden, "waits already")
	w.want(w.signed(authority.Veto, authority.Waiting{Seq: p.Seq}, 9), Forbidden, "none of the operators")
	w.want(w.signed(authority.Veto, authority.Waiting{Seq: p.Seq}, 3), Done, "")
	w.pass(8)
	w.want(w.enact(p.Seq), Forbidden, "no change of the operators")
	if !w.are(1, 2, 3) {
		t.Error("what was vetoed counts")
	}
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "") // from the beginning
	p, _ = w.l.View().Proposal()
	w.want(w.enact(p.Seq), Refused, "waits until")
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 3, 9), Done, "")
	if _, waits := w.l.View().Proposal(); waits || !w.are(9) {
		t.Error("what all have signed waits")
	}
}

// A change that waits is in a snapshot with its time, and a snapshot that says
// another one, with which it would count at once, is not believed.
func TestSnapshotsKeepWhatWaits(t *testing.T) {
	w := newWorldOfThree(t)
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	want, _ := w.l.View().Proposal()
	w.pass(3)
	w.do(10, KindSession, OpenSession{1})
	state := w.l.View().encode()
	for name, proposed := range map[string]int64{"no time": 0, "the future": w.l.View().At().UnixMilli() + 1, "a time before any": -1} {
		l := New(nil)
		if err := l.Restore(state); err != nil {
			t.Fatal(err)
		}
		x := begin(l.now.Load().db, w.index, 0)
		x.meta.At, x.meta.Proposed = w.l.View().At().UnixMilli(), proposed
		x.commit()
		if err := w.l.Verify(l.View().encode()); err == nil {
			t.Errorf("one with %s is believed", name)
		}
	}
	w.l = New(nil)
	if err := w.l.Restore(state); err != nil || !bytes.Equal(w.l.View().encode(), state) {
		t.Fatalf("%v, or it is written as something else", err)
	}
	if p, waits := w.l.View().Proposal(); !waits || p.Seq != want.Seq || !p.Due.Equal(want.Due) || len(p.Signers) != 2 {
		t.Errorf("%+v, want %+v", p, want)
	}
	w.want(w.enact(want.Seq), Refused, "waits until")
	w.pass(4)
	w.want(w.enact(want.Seq), Done, "")
}

// Programs of before know no such links, and say so in the audit chain that all have
// the same: below the level of delays this one says it in the same words.
func TestBelowTheLevelOfDelays(t *testing.T) {
	w := &world{t: t, l: New(nil), now: begun}
	w.found(2, 1, 2, 3)
	for kind := authority.NewOperators; kind <= authority.Veto; kind++ {
		r := w.signed(kind, thief, 1, 2, 3, 9)
		unknown := w.signed(200, thief, 1, 2, 3, 9)
		if r.Code != Forbidden || r.Text != string(bytes.Replace([]byte(unknown.Text), []byte("200"), []byte{'0' + kind}, 1)) && kind < 10 {
			t.Errorf("kind %d: %q, want %q", kind, r.Text, unknown.Text)
		}
	}
	w.want(w.signed(authority.Operators, thief, 1, 2, 9), Done, "") // as it was
	if !w.are(9) {
		t.Error("the old form waits")
	}
}
