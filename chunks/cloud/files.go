package cloud

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Files are small things that belong to a store beside its chunks: manifests
// and index files of snapshots. A file is in the bucket when a root names the
// bundle that it is in.

// maxFile bounds a file.
const maxFile = 256 << 20

// PutFile keeps a file for the next root, durably.
func (s *Store) PutFile(name string, content []byte) error {
	switch {
	case name == "" || len(name) > 1000:
		return fmt.Errorf("file name of %d bytes, want 1 to 1000", len(name))
	case len(content) > maxFile:
		return fmt.Errorf("file %s has %d bytes, want at most %d", name, len(content), maxFile)
	}
	body := append([]byte(name+"\n"), content...)
	if err := disk.WriteFileAtomic(s.cfg.FS, s.filePath(name), body, 0o640); err != nil {
		return err
	}
	return s.pend(name, true)
}

// RemoveFile lets the next root forget a file.
func (s *Store) RemoveFile(name string) error {
	if err := s.pend(name, false); err != nil {
		return err
	}
	return meta.Remove(s.cfg.FS, s.filePath(name))
}

func (s *Store) pend(name string, keep bool) error {
	s.mu.Lock()
	s.pending[name] = keep
	s.mu.Unlock()
	s.note(note{Kind: noteFile, Name: name, On: keep})
	return s.journal.Sync()
}

func (s *Store) filePath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return s.path("files", hex.EncodeToString(sum[:]))
}

func (s *Store) pendingFile(name string) ([]byte, error) {
	b, err := disk.ReadFile(s.cfg.FS, s.filePath(name), maxFile+1001)
	if err != nil {
		return nil, err
	}
	content, ok := bytes.CutPrefix(b, []byte(name+"\n"))
	if !ok {
		return nil, fmt.Errorf("%s is not the file %s", s.filePath(name), name)
	}
	return content, nil
}

// Files returns every file of the newest root: what a new machine needs to see
// the snapshots. It takes one request for each bundle that is not on the disk.
func (s *Store) Files(ctx context.Context) (map[string][]byte, error) {
	s.mu.Lock()
	h := s.head
	s.mu.Unlock()
	files, err := s.meta.Files(ctx, h.Bundles)
	if err != nil {
		return nil, err
	}
	for _, name := range h.Removed {
		delete(files, name)
	}
	return files, nil
}

// writeBundle writes the files that wait, with those of small older bundles if
// there are too many.
func (s *Store) writeBundle(ctx context.Context, c *change) error {
	if len(c.files) == 0 {
		return nil
	}
	files := map[string][]byte{}
	k := meta.Mergeable(c.head.Bundles)
	if k > 0 {
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
		if !keep {
			delete(files, name)
			if len(c.head.Bundles) > 0 {
				c.head.Removed = append(c.head.Removed, name)
			}
			continue
		}
		content, err := s.pendingFile(name)
		if err != nil {
			return err
		}
		files[name] = content
	}
	if len(files) == 0 {
		return nil
	}
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
			s.note(note{Kind: noteFiled, Name: name})
		}
	}
	s.mu.Unlock()
	if err := s.journal.Sync(); err != nil {
		return err
	}
	var failed []error
	for _, name := range gone {
		failed = append(failed, meta.Remove(s.cfg.FS, s.filePath(name)))
	}
	return errors.Join(failed...)
}
