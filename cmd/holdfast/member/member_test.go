package member

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/node/members"
)

func TestWhoHasHeardOfARemoval(t *testing.T) {
	for _, c := range []struct {
		members.Removal
		want  string
		lines int
	}{
		{members.Removal{Removed: "nas", Agreed: true}, "member nas is removed\n", 1},
		{members.Removal{Removed: "nas", Nodes: 2, Heard: 2, Agreed: true}, "member nas is removed\n", 1},
		{members.Removal{Removed: "nas", Nodes: 3, Heard: 2, Agreed: true}, "\n2 of 3 other nodes heard of it.", 2},
		{members.Removal{Removed: "nas", Nodes: 3}, "\nnobody could be told: 0 of 3 other nodes heard of it.", 3},
		{members.Removal{Removed: "nas", Nodes: 3, Heard: 1}, "\nthere is no quorum: the ledger is told", 3},
	} {
		if got := outcome(c.Removal); !strings.Contains(got, c.want) || strings.Count(got, "\n") != c.lines {
			t.Errorf("%+v: %q", c.Removal, got)
		}
	}
}
