package overview

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/facts"
)

// An attempt to make a datastore that failed stood in the status for ever, if the next
// one had another name.
func TestAFailedCreateIsOver(t *testing.T) {
	now := time.Now()
	run := func(store string, ok bool, ago time.Duration) facts.Run {
		return facts.Run{Of: "create-datastore", Job: store, OK: ok, Ended: now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		last   []facts.Run
		want   int
		stores []facts.StoreView
	}{
		"just now":                 {last: []facts.Run{run("a", false, time.Minute)}, want: 1},
		"a draft, and it is there": {last: []facts.Run{run("a", false, time.Minute)}, stores: []facts.StoreView{{Kept: facts.Kept{Store: "a"}, Said: now}}},
		"one of that name before":  {last: []facts.Run{run("a", false, time.Minute)}, want: 1, stores: []facts.StoreView{{Kept: facts.Kept{Store: "a"}, Said: now.Add(-time.Hour)}}},
		"then one that went well":  {last: []facts.Run{run("b", true, time.Minute), run("a", false, time.Hour)}},
		"then another failure":     {last: []facts.Run{run("b", false, time.Minute), run("a", false, time.Hour)}, want: 1},
		"after one that was well":  {last: []facts.Run{run("a", false, time.Minute), run("b", true, time.Hour)}, want: 1},
		"two days ago":             {last: []facts.Run{run("a", false, 48*time.Hour)}},
	} {
		var m Member
		m.Said(facts.NodeView{Last: c.last}, c.stores)
		if len(m.Failed) != c.want {
			t.Errorf("%s: %d failures are shown, want %d", name, len(m.Failed), c.want)
		}
	}
}

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
