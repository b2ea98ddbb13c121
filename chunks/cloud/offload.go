package cloud

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/refs"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// OffloadOptions say what goes to the bucket.
type OffloadOptions = staging.Options

// An OffloadReport says what an offload did.
type OffloadReport = staging.Report

// An offloadPlan is what an offload is about to do.
type offloadPlan struct {
	upload  []pack.Entry // not in the bucket yet
	settled []pack.Entry // in the bucket, and here only because a crash came before they were condemned
	bytes   int64
}

// Offload moves what is old enough from the disk to the bucket. It may be
// cancelled or killed at any moment and goes on where it was: packs that were
// built are uploaded first, under the names that they have. Nothing is taken
// off the disk before the bucket has confirmed a root that names it.
func (s *Store) Offload(ctx context.Context, opt OffloadOptions) (r OffloadReport, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if opt.Switchover == nil {
		opt.Switchover = plainSwitch
	}
	err = behindItself(func() error { return s.offload(ctx, opt, &r) })
	r.Root = s.Newest().Seq.String()
	return r, err
}

func (s *Store) offload(ctx context.Context, opt OffloadOptions, r *OffloadReport) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.queue.SendAll(ctx); err != nil {
		return err
	}
	plan, err := s.plan(ctx, opt.After)
	if err != nil {
		return err
	}
	if opt.Order != nil {
		if err := opt.Order(ctx, plan.upload); err != nil {
			return err
		}
	}
	r.Chunks, r.Bytes = r.Chunks+len(plan.upload), r.Bytes+plan.bytes
	if s.cfg.Stay {
		plan.settled = nil
	}
	settled, err := s.settle(ctx, plan.settled, opt.Switchover)
	if r.Evicted += settled; err != nil {
		return err
	}
	sent := func() {
		if r.Packs++; opt.Progress != nil {
			opt.Progress(*r)
		}
	}
	commit := func() error {
		evicted, err := s.commit(ctx, opt.Switchover)
		r.Evicted += evicted
		return err
	}
	if err := s.builder().Upload(ctx, s.local, plan.upload, s.cfg.Parallel, sent, commit); err != nil {
		return err
	}
	return commit()
}

// behindItself does work again that met a root of our own: one that an offload
// wrote which was cancelled, or killed, before it heard so. That root has been
// read by then, and the work comes behind it. Whether it counts is not known before
// the bucket was asked who owns it (see check): work relies on nothing until then.
func behindItself(work func() error) error {
	if err := work(); !errors.Is(err, bucket.ErrExists) {
		return err
	}
	return work()
}

// Flush makes a root of what waits: files, buried packs, uploaded packs.
func (s *Store) Flush(ctx context.Context, switchover func([]pack.Move, func())) error {
	s.work.Lock()
	defer s.work.Unlock()
	if switchover == nil {
		switchover = plainSwitch
	}
	if err := s.writable(); err != nil {
		return err
	}
	return behindItself(func() error {
		if err := s.queue.SendAll(ctx); err != nil {
			return err
		}
		_, err := s.commit(ctx, switchover)
		return err
	})
}

// plan finds what is old enough and is not on its way already.
func (s *Store) plan(ctx context.Context, after time.Duration) (p offloadPlan, err error) {
	if err := s.local.Commit(ctx); err != nil {
		return p, err
	}
	old := s.look(time.Now(), after)
	entries, err := s.local.Entries(ctx, func(i pack.Info) bool { return old[i.Number] })
	if err != nil {
		return p, err
	}
	if err := s.prove(ctx, entries); err != nil {
		return p, err
	}
	packs, err := s.confirmed(ctx) // all were sent
	if err != nil {
		return p, err
	}
	busy := staging.Within(packs)
	for _, e := range entries {
		if _, _, ok := s.table.lookup(e.Digest); ok {
			p.settled = append(p.settled, e)
		} else if !busy[e.Digest] {
			p.upload = append(p.upload, e)
			p.bytes += int64(e.Bytes)
		}
	}
	return p, nil
}

// look notes when local packs were first seen, and returns those that are old
// enough; the journal remembers.
func (s *Store) look(now time.Time, after time.Duration) map[uint32]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return staging.Old(s.seen, s.local.Packs(), now, after, func(number uint32) {
		s.note(notes.Note{Kind: notes.Seen, Number: number, Time: now})
	})
}

// Seen returns when a pack on the disk was first seen; zero: not yet.
func (s *Store) Seen(number uint32) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[number]
}

// confirmed returns the packs that the bucket has and no root names yet.
func (s *Store) confirmed(ctx context.Context) ([]layout.Pack, error) {
	return s.queue.Confirmed(ctx, func(id format.ID) bool { return !s.unused(id) })
}

// settle condemns what the bucket has confirmed before a crash, as far as that was
// proved since, and returns how much that was. See prove.
func (s *Store) settle(ctx context.Context, entries []pack.Entry, switchover func([]pack.Move, func())) (int, error) {
	var moves []pack.Move
	for _, e := range entries {
		if number, entry, ok := s.table.lookup(e.Digest); ok && s.table.proved(e.Digest) {
			moves = append(moves, pack.Move{Digest: e.Digest, Old: refs.Local(e.Ref), New: refs.Cloud(number, entry)})
		}
	}
	if len(moves) == 0 {
		return 0, nil
	}
	gone := &pack.Set{}
	switchover(moves, func() {
		for _, m := range moves {
			if number, _, ok := s.table.lookup(m.Digest); ok && 2*number+1 == m.New.Pack {
				gone.Add(pack.Ref{Pack: m.Old.Pack / 2, Entry: m.Old.Entry})
			}
		}
		s.local.Condemn(gone)
	})
	return gone.Len(), s.local.SyncState(ctx)
}

// Settle takes off the disk what the bucket has confirmed: of the chunks that are in
// both, those that may leaves over. A root that names all files that were put is known
// to count by then.
func (s *Store) Settle(ctx context.Context, may func(context.Context, []pack.Entry) ([]pack.Entry, error), switchover func([]pack.Move, func())) (n int, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	entries, err := s.local.Entries(ctx, func(pack.Info) bool { return true })
	entries = slices.DeleteFunc(entries, func(e pack.Entry) bool { return !s.Confirmed(e.Digest) })
	if err != nil || len(s.files.All()) > 0 || s.meta.Doubtful() {
		return 0, err
	}
	if entries, err = may(ctx, entries); err != nil || len(entries) == 0 {
		return 0, err
	}
	if !s.table.trusted() {
		err = s.check(ctx)
	}
	if err == nil {
		err = s.sighted(ctx, entries)
	}
	if err == nil {
		n, err = s.settle(ctx, entries, switchover)
	}
	return n, errors.Join(err, s.tidy(), staging.Free(ctx, s.local))
}

// plainSwitch is a switchover where nothing is pinned.
func plainSwitch(_ []pack.Move, apply func()) { apply() }
