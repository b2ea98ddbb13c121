package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Save restores an image, an archive as a stream, or a small file to path: a
// file, or a block device with room for it. The name is that of the server
// ([ServerName]).
//
// A file appears under its name when it is whole and durable; until then it is
// called .holdfast-…, beside it, and after an error nothing is left. Chunks of
// zeros become holes in it. What exists is refused with ErrExists unless
// Options.Overwrite is set; a file that is replaced gives its mode to the new
// one. A block device is written to in place, and keeps what was written when
// Save fails. With Options.KeepGoing content that is lost is replaced by zeros, and
// Save fails with a [DamagedError] though the file is there.
func (s *Snapshot) Save(ctx context.Context, name, path string) error {
	to, err := s.openTarget(path)
	if err != nil {
		return err
	}
	err = s.fill(ctx, name, to)
	return to.close(err)
}

func (s *Snapshot) fill(ctx context.Context, name string, to *target) error {
	m := &meter{report: s.opt.Progress}
	m.begin(name)
	defer m.tick(true)
	if strings.HasSuffix(name, ".blob") {
		content, err := s.Blob(name)
		if err != nil {
			return err
		}
		m.total = int64(len(content))
		if err := to.size(m.total); err != nil {
			return err
		}
		if _, err := to.file.WriteAt(content, 0); err != nil {
			return fmt.Errorf("restore %s: %w", name, err)
		}
		m.done(m.total)
		return nil
	}
	dec, err := s.decoder(name)
	if err != nil {
		return err
	}
	m.total = dec.Index.Size()
	if err := to.size(m.total); err != nil {
		return err
	}
	sc := &scatter{dec: dec, to: to.file, fresh: !to.device, keep: s.opt.KeepGoing, meter: m}
	return sc.run(ctx, s.origin.Chunks(), s.opt.Workers)
}

// A target is a file that is being restored.
type target struct {
	file    *os.File
	path    string // that it is to have
	replace bool
	device  bool // it is a block device, and has its name already
}

// openTarget opens a block device, or makes a file beside path.
func (s *Snapshot) openTarget(path string) (*target, error) {
	mode := fs.FileMode(0o600) // what was backed up may have been secret
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("restore to %s: %w", path, err)
	case info.IsDir():
		return nil, &failure{text: fmt.Sprintf("restore to %s: it is a directory", path), cure: "name the file to write: " + filepath.Join(path, "FILE"), kind: ErrExists}
	case !s.opt.Overwrite:
		return nil, &failure{text: fmt.Sprintf("restore to %s: it exists", path), cure: "choose another target, or overwrite it: --overwrite", kind: ErrExists}
	case info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
		return openDevice(path)
	case !info.Mode().IsRegular():
		return nil, &failure{text: fmt.Sprintf("restore to %s: it is neither a file nor a block device", path), cure: "restore to - and redirect the output", kind: ErrExists}
	default:
		mode = info.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, fmt.Errorf("restore to %s: %w", path, err)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".holdfast-*")
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", path, err)
	}
	t := &target{file: f, path: path, replace: s.opt.Overwrite}
	if err := f.Chmod(mode); err != nil {
		return nil, t.close(err)
	}
	return t, nil
}

// openDevice opens a block device. O_EXCL keeps it from being written to while
// it is mounted.
func openDevice(path string) (*target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, &failure{text: "restore to " + path, cure: "it is in use: unmount it, and stop what uses it", kind: ErrExists, cause: err}
	}
	if err != nil {
		return nil, fmt.Errorf("restore to %s: %w", path, err)
	}
	return &target{file: f, path: path, device: true}, nil
}

// size makes room for n bytes.
func (t *target) size(n int64) error {
	if !t.device {
		if err := t.file.Truncate(n); err != nil {
			return fmt.Errorf("restore to %s: %w", t.path, err)
		}
		return nil
	}
	have, err := fileSize(t.path)
	if err == nil && have < n {
		err = &failure{text: fmt.Sprintf("it has %d bytes, %d are needed", have, n), cure: "choose a larger device"}
	}
	if err != nil {
		return fmt.Errorf("restore to %s: %w", t.path, err)
	}
	return nil
}

// close makes what was written durable and gives it its name, unless err says
// that it is not to be had. Damage is no reason to throw the rest away.
func (t *target) close(err error) error {
	whole := err == nil || errors.Is(err, ErrDamaged)
	if whole {
		if failed := t.keep(); failed != nil {
			whole, err = false, errors.Join(failed, err)
		}
	}
	if closed := t.file.Close(); closed != nil && whole {
		whole, err = false, errors.Join(fmt.Errorf("restore to %s: %w", t.path, closed), err)
	}
	if !whole && !t.device {
		os.Remove(t.file.Name())
	}
	return err
}

func (t *target) keep() error {
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("restore to %s: %w", t.path, err)
	}
	if t.device {
		return nil
	}
	if err := t.rename(); err != nil {
		return fmt.Errorf("restore to %s: %w", t.path, err)
	}
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return fmt.Errorf("restore to %s: %w", t.path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some network file systems have no such thing
		return fmt.Errorf("restore to %s: %w", t.path, err)
	}
	return nil
}

// rename gives the file its name, and takes none away that has appeared since.
func (t *target) rename() error {
	if t.replace {
		return os.Rename(t.file.Name(), t.path)
	}
	err := unix.Renameat2(unix.AT_FDCWD, t.file.Name(), unix.AT_FDCWD, t.path, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return &failure{text: "a file of that name has appeared", cure: "choose another target, or overwrite it: --overwrite", kind: ErrExists}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // a file system that cannot, such as NFS
		return os.Rename(t.file.Name(), t.path)
	}
	return err
}
