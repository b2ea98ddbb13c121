// Package told remembers on the disk which files of a datastore its bucket was told of.
package told

import (
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A File is one that the bucket has been told of. A file with another length or
// time is read, and compared by its sum.
type File struct {
	Size int64  `json:"size"`
	Time int64  `json:"time"` // Unix nanoseconds; 0: not known
	Sum  uint64 `json:"sum"`  // xxhash64
}

// Of returns what content is.
func Of(content []byte) File { return File{Size: int64(len(content)), Sum: xxhash.Sum64(content)} }

const maxBytes = 1 << 30

// Read returns all files by their names; nil if what was remembered is lost.
func Read(fsys disk.FS, path string) (all map[string]File, err error) {
	b, err := disk.ReadFile(fsys, path, maxBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case json.Unmarshal(b, &all) != nil:
		return nil, nil
	}
	return all, nil
}

// Save remembers all files durably.
func Save(fsys disk.FS, path string, all map[string]File) error {
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(fsys, path, b, 0o640)
}
