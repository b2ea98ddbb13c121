package job

import (
	"strings"
	"testing"
)

// A job that runs often has one line, and one more where it gets in another's way.
func TestCalendarIsThinned(t *testing.T) {
	var list []slot
	for n := range int64(20) {
		s := slot{At: 1795968000 + 300*n, Node: "home", Job: "sync:often", Took: 1}
		if n == 7 {
			s.Overlaps = []string{"dc/prune:seldom"}
		}
		list = append(list, s)
		if n%5 == 0 {
			list = append(list, slot{At: s.At, Node: "dc", Job: "sync:often"}) // another node's
		}
	}
	var b strings.Builder
	calendarText(&b, list)
	if got := strings.Count(b.String(), "home"); got != 3 || !strings.Contains(b.String(), "and 18 times more, the last") {
		t.Errorf("%d lines are of home:\n%s", got, b.String())
	}
	if got := strings.Count(b.String(), " dc "); got != 4 {
		t.Errorf("%d lines are of dc:\n%s", got, b.String())
	}
}
