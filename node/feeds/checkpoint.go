package feeds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// How often the ledger learns how long our feed is, and what it knows is
// compared with what is here.
const (
	firstCheckpoint = time.Minute
	checkpointEvery = time.Hour
	checkpointAgain = 5 * time.Minute // after a failure
)

// checkpoint compares what the ledger knows with what is here, writes down how
// long our feed is, and says when to do so again.
func (f *Feeds) checkpoint(ctx context.Context) (again time.Duration) {
	if f.cfg.Ledger == nil {
		return checkpointEvery
	}
	err := f.compareCheckpoints()
	if err == nil && f.maySpeak() {
		err = f.writeCheckpoint(ctx)
	}
	again = checkpointEvery
	if err != nil {
		again = checkpointAgain
		f.cfg.Log.Debug("no checkpoint of the feed is in the ledger", "err", err)
	}
	return again*3/4 + rand.N(again/2)
}

// compareCheckpoints looks for feeds that are not those that the ledger knows.
func (f *Feeds) compareCheckpoints() error {
	known := f.cfg.Ledger.Checkpoints()
	for o := range known {
		if !f.wanted(o) {
			delete(known, o)
		}
	}
	_, wrong, err := f.exchange.Compare(known)
	if err != nil {
		return err
	}
	var denied []Warning
	for _, c := range wrong {
		denied = append(denied, Warning{Critical: true, Node: NodeID(c.Origin), Text: fmt.Sprintf("its feed is another one than the ledger knows, at %d.%d", c.Checkpoint.Epoch, c.Checkpoint.Seq)})
	}
	f.mu.Lock()
	f.denied = denied
	f.mu.Unlock()
	if ours := known[f.self]; f.exchange.Lost(ours) {
		f.cfg.Log.Warn("the ledger knows more of this node's feed than the node does: its disk went back", "epoch", ours.Epoch, "seq", ours.Seq)
		f.behind(ours)
	}
	return nil
}

func (f *Feeds) writeCheckpoint(ctx context.Context) error {
	ours := f.exchange.Heads()[f.self]
	if ours == f.cfg.Ledger.Checkpoints()[f.self] || ours == (feed.Head{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := f.cfg.Ledger.Checkpoint(ctx, f.cfg.Key, ours)
	if err != nil {
		return errors.Join(err, f.compareCheckpoints()) // it may have learnt why
	}
	return f.compact()
}

// compact drops what the origins of feeds have said anew since.
func (f *Feeds) compact() error {
	for o := range f.exchange.Heads() {
		if _, err := f.store.Compact(o); err != nil {
			return err
		}
	}
	return nil
}
