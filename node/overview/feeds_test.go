package overview

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/facts"
)

// A healing failed while a pack of the bucket was lost. The pack was found again, nothing
// was left to heal, and so the failure stood in the status for ever.
func TestAHealingThatNobodyNeedsIsOver(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	failed := facts.Run{Of: "heal", Job: "cloud", ID: "UPID", Ended: at, Text: "nobody has them"}
	kept := func(damaged uint64, said time.Duration, state string) []facts.StoreView {
		return []facts.StoreView{{Kept: facts.Kept{Store: "cloud", Damaged: damaged, State: state}, Said: at.Add(said)}}
	}
	for name, c := range map[string]struct {
		run    facts.Run
		bad    int
		stores []facts.StoreView
		want   int
	}{
		"whole again":             {failed, 0, kept(0, time.Hour, ""), 0},
		"chunks are damaged":      {failed, 0, kept(3, time.Hour, ""), 1},
		"a snapshot is damaged":   {failed, 1, kept(0, time.Hour, ""), 1},
		"what was said is older":  {failed, 0, kept(0, -time.Hour, ""), 1},
		"it does not open":        {failed, 0, kept(0, time.Hour, "gone"), 1},
		"it is not to be seen":    {failed, 0, nil, 1},
		"another kind of work":    {facts.Run{Of: "gc", Job: "cloud", Ended: at}, 0, kept(0, time.Hour, ""), 1},
		"another datastore":       {facts.Run{Of: "heal", Job: "main", Ended: at}, 0, kept(0, time.Hour, ""), 1},
		"one that ended as it is": {facts.Run{Of: "heal", Job: "cloud", Ended: at, OK: true}, 0, kept(3, time.Hour, ""), 0},
	} {
		var m Member
		m.Said(facts.NodeView{Bad: c.bad, Last: []facts.Run{c.run}}, c.stores)
		if len(m.Failed) != c.want {
			t.Errorf("%s: %d failures are shown, want %d", name, len(m.Failed), c.want)
		}
	}
}
