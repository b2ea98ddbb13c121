package levels

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// The level is raised when all have known it for ten minutes without a break.
func TestSteady(t *testing.T) {
	now := time.Unix(1000, 0)
	var s Steady
	for _, step := range []struct {
		after time.Duration
		all   bool
		want  bool
	}{
		{0, true, false}, {Wait - time.Second, true, false}, {time.Second, false, false}, // one does not answer
		{time.Minute, true, false}, {Wait - time.Second, true, false}, {time.Second, true, true}, {0, false, false}, {time.Hour, true, false},
	} {
		now = now.Add(step.after)
		if got := s.Know(now, step.all); got != step.want {
			t.Errorf("%s later, all know it: %t; it is raised: %t", step.after, step.all, got)
		}
	}
}

// Who keeps the cluster from a level is named, with what to do. (`member set-clock` said
// "feature level 3, want 4", and nobody knew of which node.)
func TestBelow(t *testing.T) {
	members := map[string]uint64{"a": 4, "b": 3, "c": 4, "d": 2}
	var nodes []string
	for node := range members {
		nodes = append(nodes, node)
	}
	known := Ask(t.Context(), append(nodes, "e"), func(_ context.Context, node string) (uint64, error) {
		if node == "e" {
			return 0, errors.New("no route")
		}
		return members[node], nil
	})
	if len(known) != 5 || known.All(3) || !(Known{"a": 4, "b": 5}).All(4) || !(Known{}).All(9) {
		t.Fatalf("%v", known)
	}
	name := func(node string) string { return "n" + node }
	for _, c := range []struct {
		known      Known
		text, hint string
	}{
		{known, "it cannot be done yet: nb and nd run a version of Holdfast that does not know it; ne does not answer, and may run one", "upgrade nb and nd; start ne"},
		{Known{"a": 4, "b": 3}, "nb runs a version of Holdfast that does not know it", "upgrade nb; the same command again 12 minutes later"},
		{Known{"a": 4, "e": 0, "f": 0}, "ne and nf do not answer", "start ne and nf"},
		{Known{"a": 4}, "every member runs a version that knows it, but not for long enough: it counts 10 to 12 minutes after", "the same command again 12 minutes later"},
		{Known{}, "every member runs a version that knows it", "again"},
	} {
		e := c.known.Below("it cannot be done", 4, name)
		if !strings.Contains(e.Error(), c.text) || !strings.Contains(e.Hint(), c.hint) {
			t.Errorf("%v:\n%s\n%s", c.known, e, e.Hint())
		}
	}
}
