package node

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/node/overview"
)

// maxAhead is how wrong a clock may be before people are told.
const maxAhead = time.Minute

// clockWrong says how wrong the clock of this node is, as the others have it; "" if it is
// not.
func (n *Node) clockWrong() string {
	if n.link == nil {
		return ""
	}
	return wrongBy(n.link.Ahead())
}

// wrongBy is clockWrong of how far the clocks of some others are ahead. Of two clocks it
// is not known whose is wrong.
func wrongBy(ahead time.Duration, of int) string {
	how := "behind"
	if ahead < 0 {
		how = "ahead of"
	}
	by := ahead.Abs().Round(5 * time.Second) // in steps, so that not every look is news
	text := overview.Long(by)
	switch {
	case of == 0 || by <= maxAhead:
		return ""
	case of == 1:
		return fmt.Sprintf("its clock is %s %s that of the other node: one of the two is wrong", text, how)
	}
	return fmt.Sprintf("its clock is %s %s those of most others", text, how)
}
