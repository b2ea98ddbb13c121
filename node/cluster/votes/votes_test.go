package votes

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who does not know yet whether its disk went back gives no vote, for two minutes.
func TestNoVoteBeforeItHasHeard(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := Open(dir, true)
		if v.May(1) == nil {
			t.Error("it votes at once")
		}
		time.Sleep(hearTime)
		if err := v.May(1); err != nil {
			t.Errorf("it never votes: %v", err)
		}
		v = Open(dir, true)
		if err := v.Note(false); err != nil || v.May(1) != nil {
			t.Errorf("its disk is as it was, and: %v, %v", err, v.May(1))
		}
		if err := Open(dir, false).May(1); err != nil {
			t.Errorf("nobody tells it, and it does not vote: %v", err)
		}
	})
}

// A machine whose disk went back gives no vote, also after a reboot, before a
// leader has given it all; and never one in a term of before.
func TestNoVoteOfAnOldImage(t *testing.T) {
	dir := t.TempDir()
	reboot := func() *Votes { return Open(dir, false) }
	v := reboot()
	if err := v.Note(true); err != nil {
		t.Fatal(err)
	}
	if err := v.Note(false); err != nil { // which is said of the new epoch
		t.Fatal(err)
	}
	for range 2 {
		if v.May(1<<40) == nil || !v.Suspended() {
			t.Error("it votes")
		}
		v = reboot()
	}
	if err := v.CaughtUp(7); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v.May(7) == nil || v.May(8) != nil {
			t.Errorf("in term 7: %v, in term 8: %v", v.May(7), v.May(8))
		}
		v = reboot()
	}
	if err := v.Note(true); err != nil || v.May(9) == nil {
		t.Errorf("the second time it votes: %v", err)
	}
	if err := v.CaughtUp(3); err != nil || v.May(7) == nil {
		t.Errorf("a term of before is forgotten: %v", err)
	}
}
