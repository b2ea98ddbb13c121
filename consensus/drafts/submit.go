package drafts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// submitEvery is how often it is seen whether there is a quorum again.
const submitEvery = 5 * time.Second

// Run submits drafts when there is a quorum, until ctx is done.
func (d *Drafts) Run(ctx context.Context) {
	tick := time.NewTicker(submitEvery)
	defer tick.Stop()
	for {
		if err := d.Submit(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Debug("drafts wait", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Submit submits the drafts that wait, in their order, and returns why it had to
// stop. That one does not fit is noted there and stops nothing.
func (d *Drafts) Submit(ctx context.Context) error {
	for _, draft := range d.List() {
		if _, is := d.fulfilled(draft); is && !draft.waits() {
			if err := d.settle(ctx, draft, 0, ""); err != nil {
				return err
			}
		}
	}
	if !d.Waiting() {
		return nil
	}
	if err := d.cfg.Fresh(ctx); err != nil {
		return err
	}
	var err error
	for _, draft := range d.List() {
		if draft.waits() && err == nil {
			err = d.submit(ctx, draft)
		}
	}
	if why := d.cfg.Applied(); why != nil {
		d.cfg.Log.Warn("drafts are applied, and not all that they set up works", "err", why)
	}
	return err
}

// maxTries bounds how often a draft is submitted again at once because accounts or
// settings were changed in the same moment. Then it waits for a quieter one: that its
// own rows were changed is seen before it is submitted.
const maxTries = 8

func (d *Drafts) submit(ctx context.Context, draft Draft) error {
	for try := 1; ; try++ {
		if version, is := d.fulfilled(draft); is {
			return d.settle(ctx, draft, version, "")
		}
		command, why := d.fits(draft)
		if why != "" {
			return d.settle(ctx, draft, 0, why)
		}
		answer, err := d.cfg.Submit(ctx, command)
		if err != nil {
			return err // it was not applied; or it may have been, and then it is the same request
		}
		r, err := ledger.ReadResult(answer)
		switch {
		case err != nil:
			return err
		case r.Code == ledger.Conflict && try == maxTries:
			_, err := d.anew(ctx, draft)
			return errors.Join(fmt.Errorf("draft %d waits: %w", draft.Number, r.Err()), err)
		case r.Code == ledger.Conflict:
			if draft, err = d.anew(ctx, draft); err != nil {
				return err
			}
			if err := d.cfg.Fresh(ctx); err != nil {
				return err
			}
		case r.Err() != nil:
			return d.settle(ctx, draft, 0, r.Err().Error())
		default:
			return d.settle(ctx, draft, r.Index, "")
		}
	}
}

// anew gives a draft that had no effect another request ID: the ledger answers one that
// it knows as it did before.
func (d *Drafts) anew(ctx context.Context, draft Draft) (Draft, error) {
	id := ledger.NewRequest()
	draft.Request = id[:]
	return draft, d.file.Update(ctx, func(s *state) error {
		if i := slices.IndexFunc(s.Drafts, func(o Draft) bool { return o.Number == draft.Number }); i >= 0 {
			s.Drafts[i].Request = draft.Request
		}
		return nil
	})
}

// fulfilled tells whether what a draft wants is so: its author has made the change
// again, or somebody else has, and there is nothing left to apply or to look at.
func (d *Drafts) fulfilled(draft Draft) (version uint64, is bool) {
	var c ledger.Change
	if err := canon.Decode(draft.Body, &c); err != nil {
		return 0, false
	}
	return c.Fulfilled(d.cfg.Ledger.View())
}

// fits returns the command of a draft, or why it is not to be given any more.
func (d *Drafts) fits(draft Draft) (command []byte, why string) {
	if d.cfg.Rights(draft.Actor) != draft.Rights || draft.Rights == "" {
		return nil, fmt.Sprintf("what %s may do was changed since", draft.Actor)
	}
	if why := d.file.State().strange(draft); why != "" {
		return nil, why
	}
	fork := d.cfg.Ledger.Fork()
	command, fit, err := d.command(fork.View(), d.file.State(), draft)
	if err != nil {
		return nil, err.Error()
	}
	if !fit {
		return nil, "it is on top of a draft that was not applied"
	}
	answer, err := fork.Apply(base+draft.Number, time.Now(), command)
	if err != nil {
		return nil, err.Error()
	}
	r, err := ledger.ReadResult(answer)
	if err := errors.Join(err, r.Err()); err != nil {
		return nil, err.Error()
	}
	if err := d.cfg.Check(fork); err != nil {
		return nil, "with what was changed since: " + err.Error()
	}
	return command, ""
}

// settle notes what became of a draft: it was applied at an index, or why not.
func (d *Drafts) settle(ctx context.Context, draft Draft, index uint64, why string) error {
	if why == "" {
		d.cfg.Log.Info("a draft is applied, or what it wants was done otherwise", "draft", draft.Number, "actor", draft.Actor, "what", draft.Subject())
	} else {
		d.cfg.Log.Warn("a draft is not applied; `holdfast draft discard` drops it", "draft", draft.Number, "what", draft.Subject(), "why", why)
	}
	return d.file.Update(context.WithoutCancel(ctx), func(s *state) error {
		i := slices.IndexFunc(s.Drafts, func(o Draft) bool { return o.Number == draft.Number })
		switch {
		case i < 0: // it was discarded in the meantime
		case why != "":
			s.Drafts[i].Why = why
		default:
			s.Drafts = slices.Delete(s.Drafts, i, i+1)
			if s.Done == nil {
				s.Done = map[uint64]uint64{}
			}
			s.Done[draft.Number] = index
		}
		return nil
	})
}
