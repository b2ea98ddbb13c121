package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Sweep deletes packs that roots have named as dead for longer than the grace
// and the provider's minimum, a thousand with one request. Before it deletes it
// asks whether the bucket is ours still; whoever owned it later knows of these
// packs from the roots and does not rely on them.
func (s *Store) Sweep(ctx context.Context) (deleted int, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.writable(); err != nil {
		return 0, err
	}
	if _, err := s.commit(ctx, plainSwitch); err != nil { // what is doomed is named first
		return 0, err
	}
	s.mu.Lock()
	dead := slices.Clone(s.head.Dead)
	s.mu.Unlock()
	now := time.Now()
	var keys []string
	for i, t := range dead {
		if !t.Deleted && now.Sub(t.Since) >= s.cfg.Grace {
			keys = append(keys, layout.PackKey(t.Pack))
			dead[i].Deleted, dead[i].Since = true, time.Time{}
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	if err := s.b.Delete(ctx, keys...); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.head.Dead, s.dirty = dead, true
	s.mu.Unlock()
	_, err = s.commit(ctx, plainSwitch)
	return len(keys), err
}

// AuditOptions say what an audit may do.
type AuditOptions struct {
	DeleteOrphans bool // remove what no root names and is older than the grace
}

// An AuditReport compares the bucket with what should be in it.
type AuditReport struct {
	Objects int            `json:"objects"`
	Bytes   int64          `json:"bytes"`
	Missing []format.ID    `json:"missing,omitempty"` // packs
	Wrong   []format.ID    `json:"wrong,omitempty"`   // packs of another length
	Classes map[string]int `json:"classes"`           // objects by storage class
	Orphans []string       `json:"orphans,omitempty"` // objects that no root names, older than the grace
	Deleted int            `json:"deleted"`
}

// Audit lists the bucket and compares. The listing counts only if it shows two
// objects written just before, at either end of the key space; and if more
// than one pack in a hundred seems to have vanished, the provider is not
// believed and nothing changes. Of packs that are gone, chunks are denied from
// then on, so that whoever has them stores them again.
func (s *Store) Audit(ctx context.Context, opt AuditOptions) (r AuditReport, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.writable(); err != nil {
		return r, err
	}
	if err := s.check(ctx); err != nil { // what another owner has done looks like loss
		return r, err
	}
	found, err := s.b.ListAll(ctx)
	if err != nil {
		return r, fmt.Errorf("audit %s: %w", s, err)
	}
	r.Classes = map[string]int{}
	for _, o := range found {
		r.Objects, r.Bytes = r.Objects+1, r.Bytes+o.Size
		r.Classes[o.Class]++
	}
	packs := s.table.all()
	for _, p := range packs {
		o, ok := found[layout.PackKey(p.id)]
		switch {
		case !ok:
			r.Missing = append(r.Missing, p.id)
		case o.Size != p.size:
			r.Wrong = append(r.Wrong, p.id)
		}
	}
	if gone := len(r.Missing) + len(r.Wrong); gone > 1 && gone*100 > len(packs) {
		return r, fmt.Errorf("audit %s: %w: %d of %d packs would be gone; nothing was changed", s, bucket.ErrListing, gone, len(packs))
	}
	if err := s.markLost(ctx, packs, &r); err != nil {
		return r, err
	}
	return r, s.orphans(ctx, found, opt, &r)
}

// markLost asks for each missing pack alone before it is believed to be gone.
func (s *Store) markLost(ctx context.Context, packs []*remote, r *AuditReport) error {
	gone := map[format.ID]bool{}
	for _, id := range slices.Concat(r.Missing, r.Wrong) {
		info, err := s.b.Head(ctx, layout.PackKey(id))
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return err
		}
		p := s.table.byID(id)
		gone[id] = err != nil || p != nil && info.Size != p.size
	}
	s.table.mu.Lock()
	for _, p := range packs {
		if p.lost != gone[p.id] {
			p.lost = gone[p.id]
			s.note(notes.Note{Kind: notes.Lost, Pack: p.id, On: p.lost})
			s.cfg.Log.Error("pack in the bucket", "pack", p.id.String(), "lost", p.lost)
		}
	}
	s.table.mu.Unlock()
	return s.journal.Sync()
}

func (t *table) byID(id format.ID) *remote {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.numbers[id]
	if !ok {
		return nil
	}
	return t.packs[n]
}

// orphans finds, and deletes if asked, what nothing names: packs of uploads
// that were given up, merged index objects, probes.
func (s *Store) orphans(ctx context.Context, found map[string]bucket.Info, opt AuditOptions, r *AuditReport) error {
	named := s.named()
	for key, o := range found {
		if !named(key) && time.Since(o.Time) > s.cfg.Grace {
			r.Orphans = append(r.Orphans, key)
		}
	}
	slices.Sort(r.Orphans)
	if !opt.DeleteOrphans || len(r.Orphans) == 0 {
		return nil
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.b.Delete(ctx, r.Orphans...); err != nil {
		return err
	}
	r.Deleted = len(r.Orphans)
	return nil
}

// named returns whether a key belongs to the store as it is.
func (s *Store) named() func(key string) bool {
	s.mu.Lock()
	h, doomed := s.head, s.doomed
	s.mu.Unlock()
	keep := map[string]bool{layout.FormatKey: true, layout.OwnerKey: true}
	for _, o := range slices.Concat(h.Index, h.Bundles) {
		keep[o.Key] = true
	}
	for _, p := range s.table.all() {
		keep[layout.PackKey(p.id)] = true
	}
	for _, t := range h.Dead {
		keep[layout.PackKey(t.Pack)] = true
	}
	for _, g := range doomed {
		keep[layout.PackKey(g.Pack)] = true
	}
	waiting, err := s.queue.Waiting()
	for id := range waiting {
		keep[layout.PackKey(id)] = true
	}
	return func(key string) bool {
		return keep[key] || strings.HasPrefix(key, layout.RootDir) || err != nil
	}
}
