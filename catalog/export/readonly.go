package export

import (
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// readOnly is a file system that nothing is written to, whoever tries: a
// [catalog.Tree] would leave its cache of listings in somebody else's store.
type readOnly struct{ disk.FS }

const writeFlags = os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_TRUNC | os.O_APPEND

func refuse(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
}

func (r readOnly) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag&writeFlags != 0 {
		return nil, refuse("write", name)
	}
	return r.FS.OpenFile(name, flag, perm)
}

func (readOnly) Rename(oldname, _ string) error         { return refuse("rename", oldname) }
func (readOnly) Remove(name string) error               { return refuse("remove", name) }
func (readOnly) Mkdir(name string, _ fs.FileMode) error { return refuse("mkdir", name) }
func (readOnly) SyncDir(name string) error              { return refuse("sync", name) }
func (readOnly) Lock(name string) (io.Closer, error)    { return nil, refuse("lock", name) }
