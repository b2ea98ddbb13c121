package cluster

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// A new cluster has the level of its program, raising it again does nothing, and
// it never goes down.
func TestLevelIsRaised(t *testing.T) {
	c := opened(t, made(t, Founding{}))
	running(t, c)
	if err := c.raiseTo(t.Context(), ledger.Level); err != nil || c.View().Level() != ledger.Level {
		t.Errorf("%v, level %d", err, c.View().Level())
	}
	if !c.Levels(t.Context()).All(ledger.Level + 1) { // there is nobody else
		t.Error("a node alone is held back by nobody")
	}
	if _, err := c.Client().Do(t.Context(), "node", "", ledger.KindLevel, ledger.RaiseLevel{Level: 1}); err == nil || c.View().Level() != ledger.Level {
		t.Errorf("it goes down: %v, level %d", err, c.View().Level())
	}
}
