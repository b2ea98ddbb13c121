package exchange

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// dialPatience is how long a peer may take to answer the call.
const dialPatience = 15 * time.Second

// Pull takes from a node what it has more than we, of every feed that is
// wanted. What it took before it failed is kept.
func (e *Exchange) Pull(ctx context.Context, node string) (err error) {
	defer func() {
		e.count(func(n *Counts) {
			n.Pulls++
			if err != nil {
				n.Failed++
			}
		})
		if err != nil {
			err = fmt.Errorf("pull feeds from %s: %w", node, err)
		}
	}()
	dial, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	c, err := e.cfg.Network.Dial(dial, node, network.ServiceFeeds)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	s := session{c, node}
	b, err := s.ask(request{kind: askHeads})
	if err != nil {
		return err
	}
	heads, err := parseHeads(b)
	if err != nil {
		e.count(func(n *Counts) { n.Refused++ })
		return err
	}
	var failed error
	for _, h := range heads {
		if err := e.pullFeed(s, h); errors.Is(err, feed.ErrInvalid) || errors.Is(err, errWire) {
			e.count(func(n *Counts) { n.Refused++ })
			failed = errors.Join(failed, fmt.Errorf("feed of %x: %w", h.origin[:6], err)) // the others may be good
		} else if err != nil {
			return err
		}
	}
	return failed
}

// A session is a stream on which a peer is asked.
type session struct {
	net.Conn
	node string
}

func (s session) ask(r request) ([]byte, error) {
	s.SetDeadline(time.Now().Add(patience))
	if err := writeFrame(s, r.bytes()); err != nil {
		return nil, err
	}
	return readFrame(s, maxAnswer)
}

// pullFeed takes what a peer has more of one feed.
func (e *Exchange) pullFeed(s session, theirs theirHead) error {
	o := theirs.origin
	if !e.cfg.Wanted(o) {
		return nil
	}
	e.mu.Lock()
	ours, forked := e.heads[o], e.forked[o] != nil
	e.mu.Unlock()
	switch {
	case forked:
		return nil
	case theirs.forked:
		return e.pullProof(s, o)
	case theirs.Head == ours || theirs.Seq == 0:
		return nil
	}
	behind, err := e.cfg.Store.Check(o, theirs.Head)
	switch {
	case errors.Is(err, feed.ErrForked): // let us see the record itself
		return e.pullContradiction(s, theirs.placed)
	case err != nil || !behind:
		return err
	case o == e.self:
		return e.pullOwn(s, theirs.placed)
	}
	return e.pullRecords(s, theirs.placed, ours)
}

// pullRecords takes batch after batch, until their head is ours.
func (e *Exchange) pullRecords(s session, theirs placed, ours feed.Head) error {
	for ours.Before(theirs.Head) {
		if !e.budget.allows(theirs.origin) {
			e.count(func(n *Counts) { n.Exhausted++ })
			e.cfg.Log.Warn("a node says more than this one keeps; the rest is taken later", "origin", fmt.Sprintf("%x", theirs.origin[:6]))
			return nil
		}
		records, err := s.after(theirs.origin, ours.Epoch, ours.Seq)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return fmt.Errorf("it has no record behind %d.%d: %w", ours.Epoch, ours.Seq, errWire)
		}
		if err := e.take(theirs.origin, records); err != nil || e.isForked(theirs.origin) {
			return err
		}
		before := ours
		if ours, err = e.cfg.Store.Head(theirs.origin); err != nil {
			return err
		}
		if !before.Before(ours) {
			return fmt.Errorf("its records lead nowhere: %w", errWire)
		}
		e.moved(theirs.origin, ours)
	}
	return nil
}

func (s session) after(o feed.Origin, epoch, seq uint64) ([][]byte, error) {
	b, err := s.ask(request{askAfter, o, epoch, seq})
	if err != nil {
		return nil, err
	}
	return parseRecords(b)
}

// take stores records; a fork is kept as a proof and no error.
func (e *Exchange) take(o feed.Origin, records [][]byte) error {
	n, err := e.cfg.Store.Take(o, records)
	var fork *feed.Fork
	if errors.As(err, &fork) {
		return e.keep(fork)
	}
	size := 0
	for _, r := range records {
		size += len(r)
	}
	e.budget.spend(o, size)
	e.count(func(c *Counts) { c.Taken += uint64(n); c.BytesTaken += uint64(size) })
	return err
}

// keep stores a proof and says so.
func (e *Exchange) keep(f *feed.Fork) error {
	first, err := e.cfg.Store.Keep(f)
	if err != nil {
		return err
	}
	e.mu.Lock()
	known := e.forked[f.Origin] != nil
	e.forked[f.Origin] = f
	e.mu.Unlock()
	if first && !known {
		e.cfg.Log.Error(f.Error(), "hint", f.Hint())
		if e.cfg.Forked != nil {
			e.cfg.Forked(f)
		}
	}
	return nil
}

func (e *Exchange) isForked(o feed.Origin) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forked[o] != nil
}

func (e *Exchange) pullProof(s session, o feed.Origin) error {
	b, err := s.ask(request{kind: askProof, origin: o})
	if err != nil || len(b) == 0 {
		return err
	}
	f, err := feed.ParseFork(o, b)
	if err != nil {
		return err
	}
	return e.keep(f)
}

// pullContradiction takes the record at a head that contradicts what is here.
// A peer that has none, or the one that is here, has named a wrong hash.
func (e *Exchange) pullContradiction(s session, theirs placed) error {
	records, err := s.after(theirs.origin, theirs.Epoch, theirs.Seq-1)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("it does not show its head %d.%d: %w", theirs.Epoch, theirs.Seq, errWire)
	}
	if err := e.take(theirs.origin, records[:1]); err != nil || e.isForked(theirs.origin) {
		return err
	}
	return fmt.Errorf("its head %d.%d is not what it named: %w", theirs.Epoch, theirs.Seq, errWire)
}

// pullOwn looks at what a peer has of our own feed and we have not: if it is
// ours, our disk went back.
func (e *Exchange) pullOwn(s session, theirs placed) error {
	records, err := s.after(e.self, theirs.Epoch, theirs.Seq-1)
	if err != nil || len(records) == 0 {
		return err
	}
	r, err := feed.Parse(e.self, records[0])
	if err != nil {
		return err
	}
	known := feed.Head{Epoch: r.Epoch, Seq: r.Seq, Hash: r.Hash(e.self)}
	if e.Lost(known) {
		e.cfg.Log.Warn("peers know more of this node than it does: its disk went back", "node", s.node, "epoch", known.Epoch, "seq", known.Seq)
		if e.cfg.Behind != nil {
			e.cfg.Behind(known)
		}
	}
	return nil
}
