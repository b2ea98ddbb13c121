package cluster

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// The level is raised when all have known it for ten minutes without a break.
func TestLevelWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	var s steady
	for _, step := range []struct {
		after time.Duration
		all   bool
		want  bool
	}{
		{0, true, false}, {levelSteady - time.Second, true, false}, {time.Second, false, false}, // one does not answer
		{time.Minute, true, false}, {levelSteady - time.Second, true, false}, {time.Second, true, true}, {0, false, false}, {time.Hour, true, false},
	} {
		now = now.Add(step.after)
		if got := s.know(now, step.all); got != step.want {
			t.Errorf("%s later, all know it: %t; it is raised: %t", step.after, step.all, got)
		}
	}
}

// A new cluster has the level of its program, raising it again does nothing, and
// it never goes down.
func TestLevelIsRaised(t *testing.T) {
	c := opened(t, made(t, Founding{}))
	running(t, c)
	if err := c.raiseTo(t.Context(), ledger.Level); err != nil || c.View().Level() != ledger.Level {
		t.Errorf("%v, level %d", err, c.View().Level())
	}
	if !c.allKnow(t.Context(), ledger.Level+1) { // there is nobody else
		t.Error("a node alone is held back by nobody")
	}
	if _, err := c.Client().Do(t.Context(), "node", "", ledger.KindLevel, ledger.RaiseLevel{Level: 1}); err == nil || c.View().Level() != ledger.Level {
		t.Errorf("it goes down: %v, level %d", err, c.View().Level())
	}
}
