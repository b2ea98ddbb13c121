package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/audit"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Sweep deletes packs that roots have named as dead for longer than the grace
// and the provider's minimum, a thousand with one request. Before it deletes it
// asks whether the bucket is ours still; whoever owned it later knows of these
// packs from the roots and does not rely on them.
func (s *Store) Sweep(ctx context.Context) (deleted int, failed error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.writable(); err != nil {
		return 0, err
	}
	if err := s.renewLocks(ctx); err != nil {
		defer func() { failed = errors.Join(failed, err) }()
	}
	named := func() error { _, err := s.commit(ctx, plainSwitch); return err }
	if err := behindItself(named); err != nil { // what is doomed is named first
		return 0, err
	}
	if n := s.table.stats().Lost; n > 0 {
		s.cfg.Log.Warn("nothing is deleted in the bucket while packs are lost: an older pack may have their chunks", "store", s.String(), "lost", n)
		return 0, nil
	}
	if s.meta.Doubtful() {
		return 0, nil
	}
	dead := slices.Clone(s.Newest().Dead)
	keys := audit.Due(dead, s.cfg.Grace, time.Now())
	if len(keys) == 0 {
		return 0, nil
	}
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	if err := s.b.Delete(ctx, keys...); err != nil {
		return 0, s.b.UnlessLocked(err)
	}
	s.mu.Lock()
	s.head.Dead, s.dirty = dead, true
	s.mu.Unlock()
	return len(keys), named()
}

// AuditOptions say what an audit may do.
type AuditOptions struct {
	DeleteOrphans bool // remove what no root names and is older than the grace
}

// An AuditReport compares the bucket with what should be in it.
type AuditReport = audit.Report

// Audit lists the bucket and compares. The listing counts only if it shows two
// objects written just before, at either end of the key space; and if more than one
// pack in a hundred seems to have vanished, nothing is put back or deleted. Of packs
// that are gone, each asked for alone, chunks are denied from then on, so that whoever
// has them stores them again; small objects are put back. If the bucket's word of its
// owner is damaged, all is compared and nothing changes.
func (s *Store) Audit(ctx context.Context, opt AuditOptions) (r AuditReport, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	owned := s.check(ctx) // what another owner has done looks like loss
	if owned != nil && !errors.Is(owned, identity.ErrDamaged) {
		return r, owned
	}
	found, err := s.b.ListAll(ctx)
	if err != nil {
		return r, errors.Join(owned, fmt.Errorf("audit %s: %w", s, err))
	}
	if owned == nil && audit.Newer(found, s.Newest().Seq) { // ours, of an offload that did not hear so
		if err := errors.Join(s.refresh(ctx), s.check(ctx)); err != nil {
			return r, err
		}
	}
	packs := s.table.all()
	want := make([]audit.Pack, len(packs))
	for i, p := range packs {
		want[i] = audit.Pack{ID: p.id, Size: p.size}
	}
	if r, err = audit.Compare(found, want); err != nil {
		if owned == nil {
			_, owned = s.compared(ctx, packs, r.Missing, r.Wrong)
		}
		return r, errors.Join(owned, fmt.Errorf("audit %s: %w", s, err))
	}
	if owned != nil { // who owns the bucket is not known: the rest is looked at, and stays as it is
		_, r.Gone, err = s.meta.PutBack(ctx, s.Newest(), found, func(context.Context) error { return owned })
		return r, cmp.Or(err, owned)
	}
	if r.Rescued, err = s.compared(ctx, packs, r.Missing, r.Wrong); err != nil {
		return r, err
	}
	r.Restored, r.Gone, err = s.meta.PutBack(ctx, s.Newest(), found, s.check)
	return r, errors.Join(err, s.orphans(ctx, found, opt, &r))
}

// Looks returns the small objects that the next audit reads because it is their turn.
func (s *Store) Looks() []layout.Object { return s.meta.Looks(s.Newest()) }

func (t *table) byID(id format.ID) *remote {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.numbers[id]
	if !ok {
		return nil
	}
	return t.packs[n]
}

// orphans finds, and deletes if asked, what nothing names: given up uploads, probes.
func (s *Store) orphans(ctx context.Context, found map[string]bucket.Info, opt AuditOptions, r *AuditReport) error {
	r.Orphans = audit.Orphans(found, s.named(), s.cfg.Grace)
	if !opt.DeleteOrphans || len(r.Orphans) == 0 || s.meta.Doubtful() {
		return nil
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.b.Delete(ctx, r.Orphans...); err != nil {
		return s.b.UnlessLocked(err)
	}
	r.Deleted = len(r.Orphans)
	return nil
}

// named returns whether a key belongs to the store as it is.
func (s *Store) named() func(key string) bool {
	s.mu.Lock()
	h, doomed := s.head, s.doomed
	s.mu.Unlock()
	keep := s.needs(h)
	for _, g := range doomed {
		keep = append(keep, layout.PackKey(g.Pack))
	}
	waiting, err := s.queue.Waiting()
	if err != nil {
		return func(string) bool { return true }
	}
	for id := range waiting {
		keep = append(keep, layout.PackKey(id))
	}
	return audit.Named(h, keep, keepRoots)
}

// needs returns all keys that a new machine needs to read h.
func (s *Store) needs(h layout.Head) []string {
	keys := s.meta.Keys(&h)
	for _, p := range s.table.all() {
		keys = append(keys, layout.PackKey(p.id))
	}
	return keys
}

// Newest returns what the newest root says, as far as it is known here.
func (s *Store) Newest() layout.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// renewLocks locks anew all that the store needs, if half of the time is over.
func (s *Store) renewLocks(ctx context.Context) error {
	h, p := s.Newest(), s.b.Lock()
	at, err := p.Keep(ctx, s.b, p.Last(h.Locked, h.LockDays), func() []string { return s.needs(h) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !at.Equal(h.Locked) {
		s.head.Locked, s.head.LockDays, s.dirty = at, p.Days, true
	}
	return err
}
