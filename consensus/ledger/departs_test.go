package ledger

import (
	"errors"
	"testing"
)

// A snapshot in which commands are other ones than those that were applied here was
// restored without a word, and what had been acknowledged was gone.
func TestSnapshotOfAnotherHistory(t *testing.T) {
	w := newWorld(t)
	fork := func(change func(*world)) []byte {
		o := &world{t: t, l: w.l.Fork(), now: w.now, index: w.index, n: w.n, operators: w.operators}
		change(o)
		return o.l.View().encode()
	}
	one := func(o *world) {
		s, _ := Sites.Get(o.l.View(), "home")
		o.do(10, KindChange, Change{[]Op{Sites.Put("home", s.Version, Site{})}})
	}
	for range 5 {
		one(w)
	}
	before := fork(func(*world) {})
	other := func(o *world) { o.n += 100; one(o) }
	many := func(o *world) {
		for range maxAudit {
			one(o)
		}
	}
	elsewhere := fork(func(o *world) { other(o); one(o); one(o) })
	silent := fork(func(o *world) { o.index++; one(o) }) // our command is none there
	far := fork(many)                                    // has forgotten what ours was
	first := w.index + 1
	one(w)
	one(w)
	for name, b := range map[string][]byte{"of before": before, "the same": fork(func(*world) {}), "with more": fork(one), "with so much more": far} {
		if err := w.l.Verify(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{"another command": elsewhere, "no command": silent} {
		var d *Departure
		if err := w.l.Verify(b); !errors.As(err, &d) || !errors.Is(err, ErrSnapshot) || d.From != first || d.To != w.index {
			t.Errorf("%s: %v, want one that departs at %d", name, err, first)
		}
	}
}
