package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// pinDir holds what is pinned, a file each.
const pinDir = "pinned"

const maxPins = 24 // files

// pins are things that stay until they are taken away: they have a share of
// the bound of their own, and what is over it is an error and not growth.
type pins struct {
	files map[string]int64 // cost by file
	bytes int64
}

// ErrPinned says that there is no room for more pins.
var ErrPinned = errors.New("the share of the cache for metadata is full; enlarge the cache")

func pinName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

func pinCost(n int) int64 { return (int64(n)+4095)&^4095 + fileCost }

// Pin keeps b under name until Unpin. It fails with [ErrPinned] if a quarter
// of the bound, or two dozen files, would be exceeded.
func (c *Cache) Pin(name string, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	file, cost := pinName(name), pinCost(len(b))
	old := c.pins.files[file]
	switch {
	case c.pins.bytes-old+cost > c.bound*pinnedShare/100, old == 0 && len(c.pins.files) >= maxPins:
		return fmt.Errorf("pin %s of %d bytes in %s: %w", name, len(b), c.cfg.Dir, ErrPinned)
	}
	for c.used+cost > c.bound { // both the old and the new one are there for a moment
		if !c.evict() {
			return fmt.Errorf("pin %s of %d bytes in %s: %w", name, len(b), c.cfg.Dir, ErrPinned)
		}
	}
	if err := disk.WriteFileAtomic(c.cfg.FS, path.Join(c.cfg.Dir, pinDir, file), b, 0o640); err != nil {
		return err
	}
	c.pins.files[file] = cost
	c.pins.bytes += cost - old
	c.used += cost - old
	return nil
}

// Pinned returns what was pinned under name.
func (c *Cache) Pinned(name string, limit int64) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b, err := disk.ReadFile(c.cfg.FS, path.Join(c.cfg.Dir, pinDir, pinName(name)), limit)
	return b, err == nil
}

// Unpin takes a pin away.
func (c *Cache) Unpin(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := pinName(name)
	cost := c.pins.files[file]
	delete(c.pins.files, file)
	c.pins.bytes -= cost
	c.used -= cost
	err := c.cfg.FS.Remove(path.Join(c.cfg.Dir, pinDir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (c *Cache) loadPins() error {
	c.pins.files = map[string]int64{}
	files, err := c.cfg.FS.ReadDir(path.Join(c.cfg.Dir, pinDir))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := path.Join(c.cfg.Dir, pinDir, f.Name())
		if disk.IsTemp(f.Name()) {
			if err := c.cfg.FS.Remove(name); err != nil {
				return err
			}
			continue
		}
		info, err := c.cfg.FS.Stat(name)
		if err != nil {
			return err
		}
		cost := pinCost(int(info.Size()))
		c.pins.files[f.Name()] = cost
		c.pins.bytes += cost
		c.used += cost
	}
	return nil
}
