package cloud

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// narrow is a file system on which a pack that is being built gets so much room.
type narrow struct {
	hasty
	room int64
}

func (n *narrow) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := n.hasty.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, "/new.pack") {
		return f, err
	}
	return &narrowFile{f, n.room}, nil
}

type narrowFile struct {
	disk.File
	room int64
}

func (f *narrowFile) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.room {
		return 0, &fs.PathError{Op: "write", Path: "new.pack", Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(b, off)
}

// A disk that has no room for a pack is emptied in smaller ones: that is when an
// offload is needed most.
func TestOffloadInSmallerPacks(t *testing.T) {
	s := newSite(t, true)
	st := s.owner(t.TempDir(), func(c *Config) { c.FS = &narrow{room: 2500 << 10} })
	defer stop(st)
	cs := put(t, st, 300_000, 1, 40) // 12 MB, of which a pack takes 4
	r, err := st.Offload(t.Context(), OffloadOptions{})
	if err != nil || r.Evicted != 40 || r.Packs < 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantAll(t, st, cs)

	none := s.owner(t.TempDir(), func(c *Config) { c.FS, c.Node = &narrow{room: 100 << 10}, "other" })
	defer stop(none)
	more := put(t, none, 300_000, 1000, 5)
	if _, err := none.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Error("it has worked without any room")
	}
	wantAll(t, none, more)
}
