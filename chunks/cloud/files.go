package cloud

import (
	"context"
	"errors"

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

// waits reports whether any file does.
func (s *Store) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
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
	return s.meta.EachFile(ctx, &h, fn)
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
