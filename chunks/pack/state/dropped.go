package state

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// DropPack forgets a pack. Its file may be removed after the next Sync.
func (s *State) DropPack(p *Pack) {
	s.mu.Lock()
	s.dropped[p.Number] = p.ID
	s.journal.Append(append(record(recDropped, uint64(p.Number)), p.ID[:]...))
	s.mu.Unlock()
	s.Drop(p.Number)
}

// Dropped returns the packs that were dropped and are not yet [State.Forget]ed.
func (s *State) Dropped() map[uint32]format.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.dropped)
}

// Undropped takes out of files what waits to be removed.
func (s *State) Undropped(files []File) []File {
	dropped := map[format.ID]bool{}
	for _, id := range s.Dropped() {
		dropped[id] = true
	}
	return slices.DeleteFunc(files, func(f File) bool { return dropped[f.ID] })
}

// RemoveDropped removes the files below dir of packs that were dropped by an
// earlier process, which may not have got so far.
func (s *State) RemoveDropped(fsys disk.FS, dir string) error {
	dropped := s.Dropped()
	shards := map[string]map[format.ID]bool{}
	for _, id := range dropped {
		shard := path.Join(dir, id.String()[:2])
		if shards[shard] == nil {
			shards[shard] = map[format.ID]bool{}
		}
		shards[shard][id] = true
	}
	for shard, ids := range shards {
		if err := removeFrom(fsys, shard, ids); err != nil {
			return fmt.Errorf("remove dropped packs: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = dropped
	return nil
}

func removeFrom(fsys disk.FS, dir string, ids map[format.ID]bool) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, id, ok := ParseName(e.Name()); ok && ids[id] {
			if err := fsys.Remove(path.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return fsys.SyncDir(dir)
}

// Forget ends the memory of dropped packs whose files [State.RemoveDropped] has
// removed. It is called once a table without them is durable: as long as the
// last one lists them, only this memory tells them from packs that vanished.
func (s *State) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number := range s.removed {
		delete(s.dropped, number)
	}
	s.removed = nil
}
