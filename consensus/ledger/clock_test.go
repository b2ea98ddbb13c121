package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

// ahead is what recorded logs have of a leader whose clock is wrong for one command.
func (w *world) ahead() {
	w.t.Helper()
	invite := func(seed byte) Result {
		return w.try(10, KindInvite, NewInvite{Token: [8]byte{seed}, Invite: Invite{Key: public(seed), Role: "replica", Expires: w.now.Add(time.Hour).Unix(), Uses: 1}})
	}
	w.pass(10)
	w.want(invite(90), Done, "")
	w.pass(-10)
	w.want(invite(91), Refused, "an invite is good for at most seven days from now")
	for level := w.l.View().Level() + 1; level <= LevelClock; level++ {
		w.do(10, KindLevel, RaiseLevel{level})
	}
	w.want(invite(91), Refused, ", which is ")
	w.do(10, KindClock, SetClock{})
	w.want(w.try(10, KindClock, SetClock{}), Refused, "not ahead")
	w.want(invite(91), Done, "")
}

// One command under a leader whose clock was ten days ahead, and nobody could be invited
// for ten days: not even a node in the place of one that was lost.
func TestClockIsSetBack(t *testing.T) {
	w := newWorldOfThree(t)
	w.addNode(11, "dc-1", "dc", "replica", false)
	now := w.now
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	waits, _ := w.l.View().Proposal()
	if err := w.l.Check(w.command(10, KindClock, SetClock{}).Sign(private(10))); err == nil {
		t.Error("it enters the log before every member knows it")
	}
	w.ahead()
	if at := w.l.View().At(); at.Sub(now) > time.Minute || at.Before(now) {
		t.Errorf("the clock is at %v, and was at %v in the beginning", at, now)
	}
	if p, is := w.l.View().Proposal(); !is || !p.Due.Equal(waits.Due) {
		t.Errorf("what waits counts from %v on, want %v", p.Due, waits.Due)
	}
	if i, is := Invites.Get(w.l.View(), TokenKey([8]byte{90})); !is || i.Body.Expires > w.now.Add(MaxInvite).Unix() {
		t.Errorf("the invite of ten days ahead: %+v", i)
	}
	w.want(w.try(11, KindClock, SetClock{}), Forbidden, "replica")
	if err := w.l.Check(w.command(10, KindClock, SetClock{}).Sign(private(10))); err != nil {
		t.Error(err)
	}
	// A change of operators that began while the clock was ahead waits until then and
	// seven days more; a snapshot of it is one that can be.
	w.want(w.signed(authority.Veto, authority.Waiting{Seq: waits.Seq}, 3), Done, "")
	w.pass(10)
	w.want(w.signed(authority.NewOperators, thief, 1, 2, 9), Done, "")
	w.pass(-10)
	w.do(10, KindClock, SetClock{})
	if err := New(nil).Restore(w.l.View().encode()); err != nil {
		t.Error(err)
	}
	p, _ := w.l.View().Proposal()
	w.pass(8)
	w.want(w.enact(p.Seq), Refused, "waits until")
	w.pass(10)
	w.want(w.enact(p.Seq), Done, "")
}

// The level of clocks is asked for by its number, not by what a program knows at most.
func TestClockOfOlderMembers(t *testing.T) {
	w := newWorld(t)
	w.pass(10)
	w.do(10, KindSession, OpenSession{1})
	w.pass(-10)
	w.want(w.try(10, KindClock, SetClock{}), Refused, "not ahead")
	if err := w.l.Check([]byte{1}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}
