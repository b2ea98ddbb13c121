package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Generations are what a clean stop writes down so that the next start can
// tell that nothing came between.
type Generations struct{ Index, Store uint64 }

// MarkClean leaves the mark of a clean stop.
func MarkClean(fsys disk.FS, dir string, g Generations) error {
	text := fmt.Sprintf("%016x %016x\n", g.Index, g.Store)
	return disk.WriteFileAtomic(fsys, path.Join(dir, CleanFile), []byte(text), 0o600)
}

// TakeClean reads the mark of a clean stop and removes it, durably, before
// anything can change.
func TakeClean(fsys disk.FS, dir string) (clean bool, g Generations, err error) {
	name := path.Join(dir, CleanFile)
	text, err := disk.ReadFile(fsys, name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return false, g, nil
	}
	if err == nil {
		first, second, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		var errA, errB error
		g.Index, errA = strconv.ParseUint(first, 16, 64)
		g.Store, errB = strconv.ParseUint(second, 16, 64)
		clean = errA == nil && errB == nil
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, g, err
	}
	return clean, g, fsys.SyncDir(dir)
}
