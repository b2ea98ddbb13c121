package meta

import (
	"context"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/footers"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// footersFile keeps what packs have said of themselves, as an index object does.
const footersFile = "footers"

// footers returns the packs that index objects named which cannot be read, as they say
// of themselves what is in them. Packs that nothing names yet, or any more, are among
// them: they do no harm, since a chunk is compared with its digest by whoever reads it.
// The bucket is asked after each Newest until all was found.
func (m *Objects) footers(ctx context.Context, h *layout.Head, packs []layout.Pack, unread []string) ([]layout.Pack, error) {
	slices.Sort(unread)
	if d := m.Doubt(); slices.Equal(d.Footers.Keys, unread) && (d.whole() || m.asked.Load()) {
		if kept := m.kept(h, packs); len(kept) > 0 {
			return kept, nil
		}
	}
	known := named(h, packs)
	open := layout.NewOpener(nil)
	if m.Format.KeyID != "" {
		open = layout.NewOpener(m.Key)
	}
	found, err := footers.Read(ctx, m.Bucket, open, func(id format.ID) bool { return known[id] })
	if err != nil {
		return nil, err
	}
	if err := disk.WriteFileAtomic(m.FS, m.path(footersFile), layout.EncodeIndex(found.Packs), 0o640); err != nil {
		return nil, err
	}
	m.asked.Store(true)
	m.change(func(d *Doubt) {
		d.Footers = Footers{Keys: unread, Packs: len(found.Packs), Unread: found.Unread, Requests: found.Requests}
	})
	return found.Packs, nil
}

// kept returns what packs have said before, of those that nothing else names.
func (m *Objects) kept(h *layout.Head, packs []layout.Pack) []layout.Pack {
	b, err := disk.ReadFile(m.FS, m.path(footersFile), maxObject)
	if err != nil {
		return nil
	}
	kept, err := layout.DecodeIndex(b)
	if err != nil {
		return nil
	}
	known := named(h, packs)
	return slices.DeleteFunc(kept, func(p layout.Pack) bool { return known[p.ID] })
}

// named returns the packs that are known, and those that are dead.
func named(h *layout.Head, packs []layout.Pack) map[format.ID]bool {
	known := h.Buried()
	for _, p := range packs {
		known[p.ID] = true
	}
	return known
}

// Footers returns what packs have said in the place of index objects that h names,
// for an index object that replaces them.
func (m *Objects) Footers(ctx context.Context, h *layout.Head) ([]layout.Pack, error) {
	if len(m.Without(h.Index)) == len(h.Index) {
		return nil, nil
	}
	packs, err := m.Indexes(ctx, &layout.Head{Index: m.Without(h.Index)})
	if err != nil {
		return nil, err
	}
	return m.kept(h, packs), nil
}
