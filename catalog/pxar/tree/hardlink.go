//go:build linux

package tree

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// hardlink gives a file that was extracted another name. Where that cannot be
// it extracts the content again: the file is not among what is extracted, or
// the file system has no room for another link, or the names are on two.
func (w *writer) hardlink(j *job) error {
	if j.wait != nil {
		<-j.wait // a writer has that job already, for jobs are taken in order
	}
	path, ok := w.linkable(j.node)
	if !ok {
		return w.copyOfLink(j)
	}
	dir, err := w.openParent(path)
	if err != nil {
		return w.copyOfLink(j)
	}
	defer unix.Close(dir)
	_, name := cutLast(path)
	if !inode.IsRegular(dir, name) {
		return w.copyOfLink(j)
	}
	used, err := j.place.create(j.at, j.node.Name, w.x.opt.Overwrite, func(as string) error {
		return unix.Linkat(dir, name, j.at.FD, as, 0)
	})
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) {
		return w.copyOfLink(j)
	}
	if err == nil {
		err = commit(j.at, used, j.node.Name)
	}
	if err == nil {
		w.x.rec.count(func(r *Report) *int64 { return &r.Hardlinks }, 0)
	}
	return err
}

// linkable reports whether the target of a hard link was extracted, and where
// to below the target directory. An archive says twice which file it means;
// unless both ways lead to the same, a name that was in the target before
// could be made to appear elsewhere.
func (w *writer) linkable(node *pxar.Node) (path string, ok bool) {
	x := w.x
	x.mu.Lock()
	failed := x.failed[node.Link]
	x.mu.Unlock()
	if failed || !x.selectsPath(node.Target, false) {
		return "", false
	}
	path, ok = node.Target, true
	if x.base != "" {
		path, ok = strings.CutPrefix(path, x.base+"/")
	}
	if !ok {
		return "", false
	}
	found, err := x.archive.Find(node.Target)
	return path, err == nil && found.Position == node.Link
}

// openParent opens the directory that holds path, component by component from
// the target directory, never through a symlink.
func (w *writer) openParent(path string) (int, error) {
	fd, err := unix.FcntlInt(uintptr(w.x.root.FD), unix.F_DUPFD_CLOEXEC, 0)
	parent, _ := cutLast(path)
	for name := range strings.SplitSeq(parent, "/") {
		if err != nil || name == "" {
			break
		}
		var next int
		next, err = inode.Open(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}

// copyOfLink extracts the file that a hard link means under the link's name.
func (w *writer) copyOfLink(j *job) error {
	file, err := j.node.Resolve()
	if err != nil {
		return &contentError{0, fmt.Errorf("find the file that it is a link to: %w", err)}
	}
	return w.file(j, file)
}
