package export

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A machine is the file system of this machine as a PBS datastore is written
// to it. PBS runs as a user of its own (backup), so if root exports, what is
// made belongs to whoever the target directory belongs to.
type machine struct {
	disk.OS
	give     bool
	uid, gid int
}

// newMachine returns the file system for the target dir, which must be there.
func newMachine(dir string) (*machine, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	uid, gid, ok := ownerOf(info)
	return &machine{give: ok && os.Geteuid() == 0 && (uid != 0 || gid != 0), uid: uid, gid: gid}, nil
}

func (m *machine) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := m.OS.OpenFile(name, flag, perm)
	if err != nil || !m.give || flag&os.O_CREATE == 0 {
		return f, err
	}
	if err := os.Lchown(name, m.uid, m.gid); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (m *machine) Mkdir(name string, perm fs.FileMode) error {
	err := m.OS.Mkdir(name, perm)
	if err == nil && m.give {
		err = os.Lchown(name, m.uid, m.gid)
	}
	return err
}

// Touch sets the time of the last access of a file to now, and leaves the
// other. It is by this time that a PBS knows which chunks are in use.
func (m *machine) Touch(name string) error { return os.Chtimes(name, time.Now(), time.Time{}) }

// A toucher is a file system that keeps times of access.
type toucher interface{ Touch(name string) error }
