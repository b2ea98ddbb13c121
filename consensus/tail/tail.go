// Package tail compares how the logs of two nodes end, for a node that may lead
// by its own vote alone. Raft asks nobody then: with a disk that was put back it
// would lead at once, without what others were told is agreed on, and in a term
// in which it has led before, so that Raft could not even tell the entries of the
// two times apart.
package tail

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Tail is what a node says of its log.
type Tail struct {
	Incarnation uint64 `cbor:"1,keyasint"`
	Term        uint64 `cbor:"2,keyasint"` // of the newest entry
	Index       uint64 `cbor:"3,keyasint"` // of that entry, 0: there is none
	Sum         []byte `cbor:"4,keyasint"` // of that entry; empty: only a snapshot has it
	Commit      uint64 `cbor:"5,keyasint"` // index of the newest entry that it knows to be agreed on
	Applied     uint64 `cbor:"6,keyasint"` // index of the newest command in its state
}

// Of reads the end of a log, behind which a snapshot may be that ends with an entry.
func Of(log raft.LogStore, index, term uint64) (t Tail, err error) {
	t.Index, t.Term = index, term
	last, err := log.LastIndex()
	if err != nil || last == 0 || last < index {
		return t, err
	}
	var l raft.Log
	if err := log.GetLog(last, &l); err != nil {
		return t, fmt.Errorf("read entry %d: %w", last, err)
	}
	t.Index, t.Term, t.Sum = last, l.Term, sum(&l)
	return t, nil
}

func sum(l *raft.Log) []byte {
	s := canon.Sum(append([]byte{byte(l.Type)}, l.Data...))
	return s[:]
}

// Voters are who votes, as Raft will see it: by the newest configuration in the
// log behind an entry, agreed on or not, and by c if there is none.
func Voters(log raft.LogStore, behind uint64, c raft.Configuration) (ids []string, err error) {
	last, err := log.LastIndex()
	if err != nil {
		return nil, err
	}
	for index := behind + 1; index <= last; index++ {
		var l raft.Log
		if err := log.GetLog(index, &l); err != nil {
			return nil, fmt.Errorf("read entry %d: %w", index, err)
		}
		if l.Type == raft.LogConfiguration {
			c = raft.DecodeConfiguration(l.Data)
		}
	}
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids, nil
}

// An Error says that this node must not lead another, whose log is not in its own.
type Error struct {
	Node  string // the other
	Last  uint64 // index of the newest entry there
	Ours  uint64 // likewise here, when this node began
	Other bool   // the entry Last is here, too, but another one
	Later bool   // the other is of a later incarnation: the cluster was recovered there
}

func (e *Error) Error() string {
	if e.Later {
		return fmt.Sprintf("the cluster was recovered without this node: %s is of a later incarnation, and this node waits for the signature of that", e.Node)
	}
	if e.Other {
		return fmt.Sprintf("the ledger of this node is not that of %s: entry %d differs, which was agreed on", e.Node, e.Last)
	}
	return fmt.Sprintf("the disk of this node went back: %s knows more of the ledger, up to entry %d; it ends here with entry %d", e.Node, e.Last, e.Ours)
}

// Hint says what an operator can do about it.
func (e *Error) Hint() string {
	if e.Later {
		return "nothing: it is taken in again by itself when it has heard of the signature; if that takes minutes, look at `holdfast status` on " + e.Node
	}
	return "to go on with what " + e.Node + " knows, run `holdfast member recover-quorum` there, and this node is taken in again by itself; or stop this daemon and put its newer disk back; see docs/consensus.md"
}

const (
	patience = 20 * time.Second // for anybody to answer
	others   = 5 * time.Second  // for the rest, after the first
	askTime  = 5 * time.Second
	again    = 500 * time.Millisecond
)

// A Check is that of one life of Raft.
type Check struct {
	Base  Tail            // how the log ended when the life began
	Log   raft.LogStore   // of this node
	Nodes func() []string // who may know more
	Ask   func(ctx context.Context, node string) (Tail, error)
	Found func(*Error) // is told of a node that this one must not lead; nil: there is none

	fits sync.Map // of the nodes that were judged; by name
}

// All asks everybody, and returns an [Error] if this node must not lead. Who cannot
// be reached in time is judged by [Check.May]: a site that is alone goes on.
func (c *Check) All(ctx context.Context) error {
	nodes := c.Nodes()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make(chan error, len(nodes))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	for _, node := range nodes {
		tasks.Go(func() {
			for ctx.Err() == nil {
				if asked, err := c.judge(ctx, node); asked {
					answers <- err
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(again):
				}
			}
		})
	}
	for range nodes {
		select {
		case err := <-answers:
			if err != nil {
				return err
			}
			defer time.AfterFunc(others, cancel).Stop()
		case <-ctx.Done():
			return nil
		}
	}
	c.Found(nil)
	return nil
}

// May is asked before this node, which leads, says anything to another.
func (c *Check) May(node string) error {
	if _, is := c.fits.Load(node); is {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	_, err := c.judge(ctx, node)
	return err
}

// judge asks a node; asked is false if it did not answer.
func (c *Check) judge(ctx context.Context, node string) (asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	theirs, err := c.Ask(ctx, node)
	if err != nil {
		return false, fmt.Errorf("ask %s how its log ends: %w", node, err)
	}
	e, err := c.compare(theirs)
	switch {
	case err != nil:
		return true, err
	case e == nil:
		c.fits.Store(node, true)
		return true, nil
	}
	if e.Node = node; !e.Later { // no disk went back
		c.Found(e)
	}
	return true, e
}

// compare returns what is wrong with leading a node. Who has an entry that is
// nowhere in our log, and newer than what we began with, knows more: a lone voter
// stores every entry before anybody else gets it. Older ones that were never agreed
// on are of a time with more voters, and Raft removes them.
func (c *Check) compare(theirs Tail) (*Error, error) {
	if theirs.Incarnation < c.Base.Incarnation {
		return nil, nil // it begins anew when it hears of ours
	}
	more := &Error{Last: max(theirs.Index, theirs.Applied), Ours: c.Base.Index}
	last, err := c.Log.LastIndex()
	if last = max(last, c.Base.Index); err != nil {
		return nil, err
	}
	if theirs.Incarnation > c.Base.Incarnation {
		return &Error{Later: true}, nil
	}
	if theirs.Applied > last {
		return more, nil
	}
	newer := cmp.Or(cmp.Compare(theirs.Term, c.Base.Term), cmp.Compare(theirs.Index, c.Base.Index)) > 0
	var ours raft.Log
	switch known := c.Log.GetLog(theirs.Index, &ours) == nil; {
	case known && ours.Term == theirs.Term:
		if len(theirs.Sum) > 0 && string(theirs.Sum) != string(sum(&ours)) {
			return &Error{Last: theirs.Index, Ours: c.Base.Index, Other: true}, nil
		}
	case known && theirs.Commit >= theirs.Index:
		return &Error{Last: theirs.Index, Ours: c.Base.Index, Other: true}, nil
	case newer && (known || theirs.Index >= last):
		return more, nil
	}
	return nil, nil
}
