package ledger

import (
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

// timely says whether a link comes neither too early for the level of the cluster
// nor for the operators who did not sign it. Whether it is valid the chain says.
func (t *tx) timely(b []byte) Result {
	l, err := authority.ParseLink(b)
	chain := t.meta.chain
	switch {
	case err != nil:
		return Result{}
	case l.Kind >= authority.NewOperators && t.meta.Level < authority.LevelDelay:
		// Word for word what programs say that do not know the kind: the result is a
		// part of the audit chain, in which all nodes are to have the same.
		first := ""
		if chain == nil {
			first = "link 0: "
		}
		return forbid("%s%v: a link of the kind %d, which this program does not know", first, authority.ErrRefused, l.Kind)
	case chain == nil || t.meta.Level < authority.LevelDelay:
		return Result{}
	case l.Kind == authority.Operators && chain.Hurried(b):
		return forbid("not every operator has signed, so that the change has to wait: it needs a link of the kind %d", authority.NewOperators)
	case l.Kind == authority.Enact && t.meta.Proposed != 0 && t.meta.At < due(t.meta.Proposed):
		return refuse("the change of operators waits until %s", time.UnixMilli(due(t.meta.Proposed)).UTC().Format(time.DateTime))
	}
	return Result{}
}

func due(proposed int64) int64 { return proposed + authority.Delay.Milliseconds() }

// noteProposed notes since when a change of operators waits in the next chain.
func (t *tx) noteProposed(next *authority.Chain) {
	was, _ := t.meta.chain.Pending()
	switch p, waits := next.Pending(); {
	case !waits:
		t.meta.Proposed = 0
	case p.Seq != was.Seq:
		t.meta.Proposed = t.meta.At
	}
}

// A Proposal is a change of operators that waits.
type Proposal struct {
	authority.Pending
	Since time.Time // by the clock of the ledger
	Due   time.Time // when it may count
}

// Proposal returns the change of operators that waits; false if none does.
func (v View) Proposal() (Proposal, bool) {
	p, waits := v.Chain().Pending()
	since := v.meta().Proposed
	return Proposal{p, time.UnixMilli(since), time.UnixMilli(due(since))}, waits
}

// checkProposed says whether a state says of what waits since when it does: from
// one that does not, it would count at once.
func checkProposed(v View) error {
	m := v.meta()
	if _, waits := m.chain.Pending(); waits != (m.Proposed > 0) || m.Level < LevelClock && m.Proposed > m.At {
		return errors.New("since when a change of operators waits is not what it can be")
	}
	return nil
}
