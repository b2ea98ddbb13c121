package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// What a disk needs to have left before a backup may begin or go on: one
// hundredth of it, between these two. Garbage collection, indexes and
// manifests of what is under way, and whatever else the machine does there,
// live on that.
const (
	leastRoom = 16 << 20 // bytes
	mostRoom  = 1 << 30
	inodeRoom = 64 // files and directories

	// towRoom is what is needed if chunks go to a tier above, which makes room
	// by building a pack first; but never more than a quarter of the disk.
	towRoom = 128 << 20
)

// Room fails with [chunks.ErrNoSpace] when the disk has little left. It is
// cheap enough to be asked for every chunk.
func (d *Datastore) Room() error {
	s, err := d.FS.Space(d.Dir)
	if err != nil {
		return fmt.Errorf("ask how full the disk of %s is: %w", d.Dir, err)
	}
	need := min(max(s.TotalBytes/100, leastRoom), mostRoom)
	if d.above != nil {
		need = max(need, min(towRoom, s.TotalBytes/4))
	}
	const cure = "prune snapshots and collect garbage, or enlarge the disk"
	switch {
	case s.FreeBytes < need:
		return &opError{fmt.Sprintf("%v: %d MiB are left of %d, and backups leave %d MiB for everything else",
			chunks.ErrNoSpace, s.FreeBytes>>20, s.TotalBytes>>20, need>>20), cure, chunks.ErrNoSpace}
	case s.TotalInodes > 0 && s.FreeInodes < inodeRoom:
		return &opError{fmt.Sprintf("%v: the disk has room for %d more files", chunks.ErrNoSpace, s.FreeInodes), cure, chunks.ErrNoSpace}
	}
	return nil
}

// AwaitRoom is Room that waits for a tier above to make room, if there is one.
func (d *Datastore) AwaitRoom(ctx context.Context) error {
	err := d.Room()
	if d.above == nil || !errors.Is(err, chunks.ErrNoSpace) {
		return err
	}
	if rerr := d.above.Relieve(ctx); rerr != nil {
		return fmt.Errorf("%w; and nothing could be moved away: %w", err, rerr)
	}
	return d.Room()
}
