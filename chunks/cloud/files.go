package cloud

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
)

// Files are small things that belong to a store beside its chunks: manifests
// and index files of snapshots. A file is in the bucket when a root names the
// bundle that it is in.

// PutFile keeps a file for the next root, durably.
func (s *Store) PutFile(name string, content []byte) error { return s.files.Add(name, content) }

// RemoveFile lets the next root forget a file.
func (s *Store) RemoveFile(name string) error { return s.files.Drop(name) }

// Waits reports whether a file waits for the next root.
func (s *Store) Waits(name string) bool { return s.files.All()[name] }

func (s *Store) noteFile(c files.Change) {
	n := notes.Note{Kind: notes.File, Name: c.Name, On: c.Keep}
	if c.Done {
		n = notes.Note{Kind: notes.Filed, Name: c.Name}
	}
	s.note(n)
}

// EachFile calls fn with every file of the newest root: what a new machine
// needs to see the snapshots. It takes one request for each bundle that is not
// on the disk.
func (s *Store) EachFile(ctx context.Context, fn func(name string, content []byte) error) error {
	h := s.Newest()
	return s.meta.EachFile(ctx, &h, fn)
}
