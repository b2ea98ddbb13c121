package meta

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// PutIndex writes the rows of new packs for the root that h becomes, with those of
// small older objects if there are too many. Packs that are dead are left out of
// what is merged.
func (m *Objects) PutIndex(ctx context.Context, h *layout.Head, packs []layout.Pack) error {
	k := m.mergeable(h.Index)
	if len(packs) == 0 && k == 0 {
		return nil
	}
	if k > 0 {
		at := len(h.Index) - k
		old, err := m.Indexes(ctx, &layout.Head{Index: h.Index[at:]})
		if err != nil {
			return err
		}
		dead := h.Buried()
		old = slices.DeleteFunc(old, func(p layout.Pack) bool { return dead[p.ID] })
		packs, h.Index = append(old, packs...), h.Index[:at]
		if at == 0 { // no object names a deleted pack any more
			h.Dead = slices.DeleteFunc(h.Dead, func(t layout.Tombstone) bool { return t.Deleted })
		}
	}
	o, err := m.Put(ctx, layout.IndexKey(h.Seq, rand.Text()), layout.EncodeIndex(packs))
	if err != nil {
		return err
	}
	o.Items = len(packs)
	h.Index = append(h.Index, o)
	return nil
}

// mergeable is [Mergeable] of objects that can be read.
func (m *Objects) mergeable(objects []layout.Object) int {
	if len(m.Without(objects)) < len(objects) {
		return 0
	}
	return Mergeable(objects)
}

// bundleBytes is about how much content goes into one bundle.
const bundleBytes = 128 << 20

// PutFiles writes files for the root that h becomes, with those of small older
// bundles if there are too many. changed says which are new, true, and which are no
// more; get reads one that is new.
func (m *Objects) PutFiles(ctx context.Context, h *layout.Head, changed map[string]bool, get func(name string) ([]byte, error)) error {
	if len(changed) == 0 {
		return nil
	}
	files := map[string][]byte{}
	if k := m.mergeable(h.Bundles); k > 0 {
		at := len(h.Bundles) - k
		old, err := m.Files(ctx, h.Bundles[at:])
		if err != nil {
			return err
		}
		for _, name := range h.Removed {
			delete(old, name)
		}
		files, h.Bundles = old, h.Bundles[:at]
		if at == 0 {
			h.Removed = nil
		}
	}
	for name, keep := range changed {
		h.Removed = slices.DeleteFunc(h.Removed, func(r string) bool { return r == name })
		if keep {
			files[name] = nil // read when its turn comes
			continue
		}
		delete(files, name)
		if len(h.Bundles) > 0 {
			h.Removed = append(h.Removed, name)
		}
	}
	// In order of name: successive index files lie side by side, and pack well.
	part, size := map[string][]byte{}, 0
	names := slices.Sorted(maps.Keys(files))
	for i, name := range names {
		content := files[name]
		if changed[name] {
			var err error
			if content, err = get(name); err != nil {
				return err
			}
		}
		part[name], size = content, size+len(content)
		delete(files, name)
		if size < bundleBytes && i < len(names)-1 {
			continue
		}
		if err := m.putBundle(ctx, h, part); err != nil {
			return err
		}
		part, size = map[string][]byte{}, 0
	}
	return nil
}

func (m *Objects) putBundle(ctx context.Context, h *layout.Head, files map[string][]byte) error {
	body, err := layout.EncodeBundle(files)
	if err != nil {
		return err
	}
	o, err := m.Put(ctx, layout.BundleKey(h.Seq, rand.Text()), body)
	if err != nil {
		return err
	}
	o.Items = len(files)
	h.Bundles = append(h.Bundles, o)
	return nil
}

// EachFile calls fn with every file that h names, but for those of bundles that
// cannot be read: see [Objects.Doubt].
func (m *Objects) EachFile(ctx context.Context, h *layout.Head, fn func(name string, content []byte) error) error {
	done := map[string]bool{}
	for _, name := range h.Removed {
		done[name] = true
	}
	for _, o := range slices.Backward(h.Bundles) { // later ones replace earlier ones
		some, err := m.Files(ctx, []layout.Object{o})
		if _, err = m.read(o, err); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(some)) {
			if done[name] {
				continue
			}
			done[name] = true
			if err := fn(name, some[name]); err != nil {
				return err
			}
		}
	}
	return nil
}
