package writer

import (
	"fmt"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// roomStep is for how many bytes at most the file system is not asked again.
const roomStep = 16 << 20

// Room watches how much of the disk may still be filled.
type Room struct {
	fs      disk.FS
	dir     string
	reserve int64 // bytes kept back; 0: 1 % of the disk, 16 MiB to 1 GiB
	left    atomic.Int64
}

// NewRoom watches the disk of dir, of which reserve bytes are kept back; 0
// means 1 % of it, at least 16 MiB and at most 1 GiB.
func NewRoom(fs disk.FS, dir string, reserve int64) *Room {
	return &Room{fs: fs, dir: dir, reserve: reserve}
}

// Look makes the next Take ask the file system: space may have come back.
func (r *Room) Look() { r.left.Store(0) }

// Take reserves n bytes or fails with [chunks.ErrNoSpace].
func (r *Room) Take(n int64) error {
	if r.left.Add(-n) >= 0 {
		return nil
	}
	space, err := r.fs.Space(r.dir)
	if err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	reserve := r.reserve
	if reserve == 0 {
		reserve = min(max(space.TotalBytes/100, 16<<20), 1<<30)
	}
	free := space.FreeBytes - reserve
	if free < n {
		r.left.Store(0)
		return fmt.Errorf("%w: %d MiB free, of which %d are kept back", chunks.ErrNoSpace, space.FreeBytes>>20, reserve>>20)
	}
	r.left.Store(min(free-n, roomStep))
	return nil
}
