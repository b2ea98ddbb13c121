package cloud

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
)

// Files are small things that belong to a store beside its chunks: manifests
// and index files of snapshots. A file is in the bucket when a root names the
// bundle that it is in.

// PutFile keeps a file for the next root, durably.
func (s *Store) PutFile(name string, content []byte) error {
	if err := s.files.Put(name, content); err != nil {
		return err
	}
	return s.pend(name, true)
}

// RemoveFile lets the next root forget a file.
func (s *Store) RemoveFile(name string) error {
	if err := s.pend(name, false); err != nil {
		return err
	}
	return s.files.Remove(name)
}

// Waits reports whether a file waits for the next root.
func (s *Store) Waits(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[name]
}

func (s *Store) pend(name string, keep bool) error {
	s.mu.Lock()
	s.pending[name] = keep
	s.mu.Unlock()
	s.note(notes.Note{Kind: notes.File, Name: name, On: keep})
	return s.journal.Sync()
}

// EachFile calls fn with every file of the newest root: what a new machine
// needs to see the snapshots. It takes one request for each bundle that is not
// on the disk.
func (s *Store) EachFile(ctx context.Context, fn func(name string, content []byte) error) error {
	h := s.Newest()
	done := map[string]bool{}
	for _, name := range h.Removed {
		done[name] = true
	}
	for _, o := range slices.Backward(h.Bundles) { // later ones replace earlier ones
		some, err := s.meta.Files(ctx, []layout.Object{o})
		if err != nil {
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

// bundleBytes is about how much content goes into one bundle.
const bundleBytes = 128 << 20

// writeBundles writes the files that wait, with those of small older bundles
// if there are too many.
func (s *Store) writeBundles(ctx context.Context, c *change) error {
	if len(c.files) == 0 {
		return nil
	}
	files := map[string][]byte{}
	if k := meta.Mergeable(c.head.Bundles); k > 0 {
		at := len(c.head.Bundles) - k
		old, err := s.meta.Files(ctx, c.head.Bundles[at:])
		if err != nil {
			return err
		}
		for _, name := range c.head.Removed {
			delete(old, name)
		}
		files, c.head.Bundles = old, c.head.Bundles[:at]
		if at == 0 {
			c.head.Removed = nil
		}
	}
	for name, keep := range c.files {
		c.head.Removed = slices.DeleteFunc(c.head.Removed, func(r string) bool { return r == name })
		if keep {
			files[name] = nil // read when its turn comes
			continue
		}
		delete(files, name)
		if len(c.head.Bundles) > 0 {
			c.head.Removed = append(c.head.Removed, name)
		}
	}
	// In order of name: successive index files lie side by side, and pack well.
	part, size := map[string][]byte{}, 0
	names := slices.Sorted(maps.Keys(files))
	for i, name := range names {
		content := files[name]
		if c.files[name] {
			var err error
			if content, err = s.files.Get(name); err != nil {
				return err
			}
		}
		part[name], size = content, size+len(content)
		delete(files, name)
		if size < bundleBytes && i < len(names)-1 {
			continue
		}
		if err := s.writeBundle(ctx, c, part); err != nil {
			return err
		}
		part, size = map[string][]byte{}, 0
	}
	return nil
}

func (s *Store) writeBundle(ctx context.Context, c *change, files map[string][]byte) error {
	body, err := layout.EncodeBundle(files)
	if err != nil {
		return err
	}
	o, err := s.meta.Put(ctx, layout.BundleKey(c.head.Seq, rand.Text()), body)
	if err != nil {
		return err
	}
	o.Items = len(files)
	c.head.Bundles = append(c.head.Bundles, o)
	return nil
}

// forgetFiles drops what a root names now, unless it has been replaced since.
func (s *Store) forgetFiles(done map[string]bool) error {
	var gone []string
	s.mu.Lock()
	for name, keep := range done {
		if s.pending[name] == keep {
			delete(s.pending, name)
			gone = append(gone, name)
			s.note(notes.Note{Kind: notes.Filed, Name: name})
		}
	}
	s.mu.Unlock()
	if err := s.journal.Sync(); err != nil {
		return err
	}
	var failed []error
	for _, name := range gone {
		failed = append(failed, s.files.Remove(name))
	}
	return errors.Join(failed...)
}
