package authority

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Pending change of who the operators are waits, so that whoever did not sign it
// hears of it first: who has stolen as many keys as must sign cannot lock the others
// out unseen. There is one at a time.
type Pending struct {
	Seq     uint64 // of the link
	Body    OperatorsBody
	Signers []Key // those of the present operators who have signed
}

// setOperators has others be the operators from now on. What waits was for the
// operators of before.
func (c *Chain) setOperators(o OperatorsBody, signers []Key) error {
	if err := checkOperators(o.Operators, o.Threshold); err != nil {
		return err
	}
	if count(signers, o.Operators) < len(o.Operators) {
		return refused("not every new operator has signed, so that one might not have its key")
	}
	c.operators, c.threshold, c.pending = o.Operators, o.Threshold, nil
	return nil
}

// newOperators has others be the operators: at once if nobody is left who could
// object. The recovery key stands for those who did not sign: without it, one stolen
// key could veto for ever that it is taken away.
func (c *Chain) newOperators(seq uint64, o OperatorsBody, signers []Key, recovery bool) error {
	present := c.operators
	if count(signers, present) == len(present) || recovery {
		return c.setOperators(o, signers)
	}
	if c.pending != nil {
		return refused("a change of the operators waits already, that of link %d: it has to be vetoed first", c.pending.Seq)
	}
	after := c.clone() // to be refused now, and not when it is to count
	if err := after.setOperators(o, signers); err != nil {
		return err
	}
	p := Pending{Seq: seq, Body: o}
	for _, k := range present {
		if slices.Contains(signers, k) {
			p.Signers = append(p.Signers, k)
		}
	}
	c.pending = &p
	return nil
}

// named refuses a link about another change than the one that waits.
func (c *Chain) named(w Waiting) error {
	if c.pending == nil || c.pending.Seq != w.Seq {
		return refused("no change of the operators of link %d waits", w.Seq)
	}
	return nil
}

func (c *Chain) enact(l Link) error {
	if len(l.Sigs) != 0 {
		return refused("the link that a change counts from has no signatures")
	}
	return with(l, func(w Waiting) error {
		if err := c.named(w); err != nil {
			return err
		}
		c.operators, c.threshold, c.pending = c.pending.Body.Operators, c.pending.Body.Threshold, nil
		return nil
	})
}

func (c *Chain) veto(l Link, entitled bool) error {
	if !entitled {
		return refused("none of the operators has signed the veto")
	}
	return with(l, func(w Waiting) error {
		if err := c.named(w); err != nil {
			return err
		}
		c.pending = nil
		return nil
	})
}

// Hurried tells whether a link behind c would change the operators without the word
// of all of them, now: nobody but the ledger can say that it has waited for long
// enough, or that it is from before there was a delay.
func (c *Chain) Hurried(b []byte) bool {
	l, err := ParseLink(b)
	if err != nil || c == nil || l.Kind != Operators {
		return err == nil && l.Kind == Enact
	}
	signers, err := l.signers(c.cluster)
	return err != nil || count(signers, c.operators) < len(c.operators)
}

// EnactLink is the link from which on what waits counts.
func (c *Chain) EnactLink() []byte { return canon.Encode(c.Draft(Enact, Waiting{c.pending.Seq})) }
