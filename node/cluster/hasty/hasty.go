// Package hasty tells people of operators who count before the time is over in which
// others can veto them: the clocks were wrong of whoever led, or of most, or they are
// together with that node.
package hasty

import (
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Config says by what a node knows better. All is required.
type Config struct {
	// Now is the time as the ledger gets it from this node, which most may have put
	// right: that of most is wrong if most are.
	Now func() time.Time
	// Clock is that of this machine alone.
	Clock func() time.Time
	// Known is for how long this node has known the links of a chain up to a length, by a
	// clock that nobody sets.
	Known func(length uint64) time.Duration
	Alarm func(key, text, hint string)
}

// A Watch is on the changes of operators of one ledger.
type Watch struct {
	Config

	mu     sync.Mutex
	waits  *ledger.Proposal
	counts *ledger.Proposal // it does, and the clock here has not said that it is too early
}

// New returns a watch.
func New(cfg Config) *Watch { return &Watch{Config: cfg} }

// slack is by how much clocks may differ.
const slack = time.Hour

// See is to be called after every change of the ledger.
func (w *Watch) See(v ledger.View) {
	p, waits := v.Proposal()
	w.mu.Lock()
	was := w.waits
	if w.waits = nil; waits {
		w.waits = &p
	}
	if was != nil && !(waits && p.Seq == was.Seq) && enacted(v, was.Seq) {
		w.counts = was
	}
	w.mu.Unlock()
	w.Look()
}

func enacted(v ledger.View, proposed uint64) bool {
	return slices.ContainsFunc(v.Chain().Links(proposed), func(b []byte) bool {
		l, err := authority.ParseLink(b)
		return err == nil && l.Kind == authority.Enact
	})
}

// Look is to be called from time to time: a clock that was wrong when they came to count
// may have been put right.
func (w *Watch) Look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts == nil {
		return
	}
	due := w.counts.Due
	if !w.early(*w.counts) {
		if w.Known(w.counts.Seq+1) >= authority.Delay {
			w.counts = nil // whatever the clocks say from here on
		}
		return
	}
	w.counts = nil
	w.Alarm("early", "others became operators before the seven days were over in which any of you may veto that: it was to count on "+due.Local().Format(time.DateTime),
		"look at the clocks of all nodes, that of who leads first, and at `holdfast operator list`; if nobody of you wants these: take them away with the recovery key, see docs/consensus.md; else `holdfast node seen`")
}

// early tells whether a change counts before its time. A clock of this machine that is
// behind says so as well, of a change that this node has seen waiting all the time.
func (w *Watch) early(p ledger.Proposal) bool {
	before := func(at time.Time) bool { return at.Before(p.Due.Add(-slack)) }
	return before(w.Now()) || before(w.Clock()) && w.Known(p.Seq+1) < authority.Delay-slack
}
