// Package forgotten tells snapshots that somebody forgot from those whose files are
// gone from the disk without anybody's will: only the first leave the bucket as well.
package forgotten

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Journal is a file of snapshots that were forgotten and of which the bucket was not
// told yet, a line each. It is not synced: a line that a power cut takes lets a snapshot
// come back, and the trash has what was forgotten last.
type Journal struct {
	FS   disk.FS
	Path string

	mu sync.Mutex
}

const maxBytes = 1 << 28

// Add notes that a snapshot is about to be forgotten.
func (j *Journal) Add(ns catalog.Namespace, s catalog.Snapshot) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := j.FS.OpenFile(j.Path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	end, err := f.Size()
	if err == nil {
		_, err = f.WriteAt([]byte(path.Join(ns.Path(), s.Path())+"\n"), end)
	}
	return errors.Join(err, f.Close())
}

// All returns the snapshots, as paths below the datastore.
func (j *Journal) All() (map[string]bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read()
}

func (j *Journal) read() (map[string]bool, error) {
	all := map[string]bool{}
	b, err := disk.ReadFile(j.FS, j.Path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	for line := range bytes.Lines(b) {
		if name, whole := strings.CutSuffix(string(line), "\n"); whole {
			all[name] = true
		}
	}
	return all, err
}

// Done drops snapshots of which the bucket was told, or that are back.
func (j *Journal) Done(done func(snapshot string) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	all, err := j.read()
	if err != nil {
		return err
	}
	var left []string
	for name := range all {
		if !done(name) {
			left = append(left, name+"\n")
		}
	}
	if len(left) == len(all) {
		return nil
	}
	slices.Sort(left)
	return disk.WriteFileAtomic(j.FS, j.Path, []byte(strings.Join(left, "")), 0o640)
}

// Vanished returns which of the files that the bucket was told of, and that are not
// here, were not meant to go. told and here are about names of files, forgotten about
// snapshots.
func Vanished(told []string, here, forgotten func(string) bool) (lost []string) {
	groups := map[string]bool{} // of which snapshots are here or lost
	var shared []string         // files of groups
	for _, name := range told {
		ns, rest := filename.Space(name)
		s, file, ok := filename.Snapshot(rest)
		if !ok {
			if name != "settings.json" && !here(name) {
				shared = append(shared, name)
			}
			continue
		}
		dir := path.Join(ns.Path(), s.Path())
		lives := here(path.Join(dir, filename.Manifest))
		if lives || !forgotten(dir) {
			groups[path.Dir(dir)] = true
			if !here(name) && (file != ".protected" || !lives) {
				lost = append(lost, name)
			}
		}
	}
	for _, name := range shared {
		if path.Base(name) == "owner" && groups[path.Dir(name)] {
			lost = append(lost, name)
		}
	}
	return lost
}
