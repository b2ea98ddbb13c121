//go:build linux

package tree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// maxOpenDirs is how many directories on the way down stay open. Those above
// are closed, and opened again through ".." on the way back, so that depth
// costs no descriptors.
const maxOpenDirs = 64

const (
	excludeFile    = ".pxarexclude"     // rules for the directory it lies in and those below
	excludeCLIFile = ".pxarexclude-cli" // the rules of the command line, made up by the archiver

	// maxExcludeFile is how many bytes of rules are read: more than anybody
	// writes, and little enough for one in each of many directories.
	maxExcludeFile = 1 << 20

	// maxRules bounds the rules of such files that apply at one place, so that
	// no user can make the backup of all others take forever.
	maxRules = 10_000
)

// A dir is one directory on the way from the root, which has no parent.
type dir struct {
	parent *dir
	name   string
}

// path returns the path of name in d from the root, without a leading slash.
func (d *dir) path(name string) string {
	parts := []string{name}
	for ; d.parent != nil; d = d.parent {
		parts = append(parts, d.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// own returns the path of d itself.
func (d *dir) own() string {
	if d.parent == nil {
		return ""
	}
	return d.parent.path(d.name)
}

// A frame is a directory in which the walker is, with what is left of it.
type frame struct {
	dir     *dir
	at      *inode.Handle // nil while it is closed for the sake of deeper ones
	id      inode.ID
	vol     *inode.Volume
	entries []inode.Dirent
	listed  int // what entries held at first, for the limit
	rules   int // how many rules apply outside
	pathLen int // length of the path outside
}

// A walker goes through a tree depth first and hands everything on in the
// order of the archive.
type walker struct {
	ctx  context.Context
	opt  Options
	rec  *recorder
	emit func(*node) error

	scan  *inode.Scanner
	vols  inode.Volumes
	stack []frame
	rules match.List
	path  []byte // of the directory on top, with a slash at the end
	total int    // entries on the stack
}

// walk goes through the tree whose root is open as fd, and closes it.
func (w *walker) walk(fd int) error {
	defer func() {
		for i := range w.stack {
			if w.stack[i].at != nil {
				w.stack[i].at.Drop()
			}
		}
	}()
	if err := w.enter(nil, "", fd); err != nil {
		return err
	}
	for len(w.stack) > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		top := &w.stack[len(w.stack)-1]
		if len(top.entries) == 0 {
			if err := w.leave(); err != nil {
				return err
			}
			continue
		}
		next := top.entries[0]
		top.entries = top.entries[1:]
		if err := w.visit(top, next); err != nil {
			return err
		}
	}
	return nil
}

// visit hands on one entry of the directory on top, or enters it.
func (w *walker) visit(top *frame, e inode.Dirent) error {
	if e.Kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		err := inode.Again(func() error { return unix.Fstatat(top.at.FD, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) })
		if err != nil {
			return leftOut(w.rec, err, func() string { return top.dir.path(e.Name) })
		}
		e.Kind = uint8(st.Mode & unix.S_IFMT >> 12) // DT_* are the type bits of the mode
	}
	if top.dir.parent == nil && e.Name == excludeCLIFile {
		return nil
	}
	if w.excludes(e) {
		w.rec.excluded()
		return nil
	}
	if e.Kind != unix.DT_DIR {
		return w.emit(&node{op: opEntry, dir: top.dir, name: e.Name, kind: e.Kind, at: top.at.Hold(), vol: top.vol})
	}
	fd, err := inode.OpenQuietly(top.at.FD, e.Name, inode.DirFlags)
	if err != nil {
		return leftOut(w.rec, err, func() string { return top.dir.path(e.Name) })
	}
	return w.enter(top, e.Name, fd)
}

func (w *walker) excludes(e inode.Dirent) bool {
	if len(w.rules) == 0 {
		return false
	}
	return w.rules.Match(string(w.path)+e.Name, e.Kind == unix.DT_DIR) == match.Matched
}

// enter puts the directory fd on the stack and lists it.
func (w *walker) enter(parent *frame, name string, fd int) error {
	f := frame{dir: &dir{name: name}, at: inode.NewHandle(fd), rules: len(w.rules), pathLen: len(w.path)}
	if parent != nil {
		f.dir.parent = parent.dir
	}
	meta, err := w.inspect(&f)
	if err != nil {
		f.at.Drop()
		return w.unlessRoot(f.dir, err)
	}
	if err := w.emit(&node{op: opEnter, dir: f.dir, meta: meta}); err != nil {
		f.at.Drop()
		return err
	}
	if parent != nil {
		w.path = append(append(w.path, name...), '/')
	}
	mounted := parent != nil && parent.id.Dev != f.id.Dev && !w.opt.AllFileSystems && !slices.Contains(w.opt.IncludeDevices, f.id.Dev)
	if mounted || f.vol.Virtual {
		w.rec.mount(f.dir.own())
	} else if err := w.list(&f); err != nil {
		f.at.Drop()
		return err
	}
	w.push(f)
	return nil
}

// unlessRoot makes the failure to read a directory a warning, except for that
// of the root.
func (w *walker) unlessRoot(d *dir, err error) error {
	if d.parent == nil {
		return err
	}
	return leftOut(w.rec, err, d.own)
}

// inspect reads what the archive keeps of the directory itself.
func (w *walker) inspect(f *frame) (*pxar.Metadata, error) {
	st, err := inode.Stat(f.at.FD)
	if err != nil {
		return nil, err
	}
	f.id = inode.IDOf(st)
	if f.vol, err = w.vols.Of(f.at.FD, f.id.Dev); err != nil {
		return nil, err
	}
	if f.vol.Virtual {
		if f.dir.parent == nil {
			return nil, ErrVirtual
		}
		return inode.Basic(st), nil
	}
	meta, err := w.scan.Metadata(f.at.FD, st, f.vol)
	if err != nil {
		w.rec.warn(Attribute, f.dir.own(), err)
	}
	return meta, nil
}

// list reads the names in f, and its rules.
func (w *walker) list(f *frame) error {
	limit := w.opt.EntriesMax - w.total
	entries, err := inode.ReadNames(f.at.FD, limit, w.ctx.Err)
	switch {
	case errors.Is(err, ErrTooManyEntries):
		return &LimitError{Path: f.dir.own(), Limit: w.opt.EntriesMax}
	case err != nil && (w.ctx.Err() != nil || hopeless(err)):
		return err
	case err != nil:
		w.rec.warn(Damaged, f.dir.own(), fmt.Errorf("read the names in the directory: %w", err))
	}
	f.entries, f.listed = entries, len(entries)
	_, found := slices.BinarySearchFunc(entries, excludeFile, func(e inode.Dirent, name string) int { return strings.Compare(e.Name, name) })
	if found {
		w.readRules(f)
	}
	return nil
}

// readRules adds the rules of the directory f. A symlink of that name is none.
func (w *walker) readRules(f *frame) {
	path := f.dir.path(excludeFile)
	content, err := readWhole(f.at.FD, excludeFile, maxExcludeFile)
	if err != nil {
		w.rec.warn(BadPattern, path, fmt.Errorf("the whole file is ignored: %w", err))
		return
	}
	rules, bad := match.ParseFile(content, strings.TrimSuffix(string(w.path), "/"))
	for _, err := range bad {
		w.rec.warn(BadPattern, path, err)
	}
	if len(w.rules)+len(rules) > maxRules+len(w.opt.Exclude) {
		w.rec.warn(BadPattern, path, fmt.Errorf("the whole file is ignored: with it, more than %d rules would apply", maxRules))
		return
	}
	w.rules = append(w.rules, rules...)
}

// readWhole reads a regular file of at most limit bytes.
func readWhole(dir int, name string, limit int) ([]byte, error) {
	fd, err := inode.OpenQuietly(dir, name, inode.FileFlags)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := inode.Stat(fd)
	switch {
	case err != nil:
		return nil, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, inode.ErrKind
	case st.Size > int64(limit):
		return nil, fmt.Errorf("%d bytes long, want at most %d", st.Size, limit)
	}
	content := make([]byte, st.Size)
	n, err := inode.Read(fd, content, 0)
	return content[:n], err
}

// push puts f on the stack, and closes the one that is too far above. The
// root stays open: all other ways may be cut off.
func (w *walker) push(f frame) {
	w.total += f.listed
	w.stack = append(w.stack, f)
	if i := len(w.stack) - 1 - maxOpenDirs; i > 0 {
		w.stack[i].at.Drop()
		w.stack[i].at = nil
	}
}

// leave takes the directory on top off the stack.
func (w *walker) leave() error {
	last := len(w.stack) - 1
	f := w.stack[last]
	if last == 0 && len(w.opt.Exclude) > 0 {
		if err := w.emit(&node{op: opSynthetic, dir: f.dir, name: excludeCLIFile}); err != nil {
			return err
		}
	}
	w.stack = w.stack[:last]
	w.rules, w.path, w.total = w.rules[:f.rules], w.path[:f.pathLen], w.total-f.listed
	err := w.reopen(f.at)
	f.at.Drop()
	if err != nil {
		return err
	}
	return w.emit(&node{op: opLeave, dir: f.dir})
}

// reopen makes sure that the directory now on top is open, after child was
// left. If it cannot be found again, what is left of it is lost.
func (w *walker) reopen(child *inode.Handle) error {
	if len(w.stack) == 0 || w.stack[len(w.stack)-1].at != nil {
		return nil
	}
	top := &w.stack[len(w.stack)-1]
	fd, err := inode.ReopenParent(child.FD, top.id)
	if err != nil {
		fd, err = w.descend()
	}
	if err != nil {
		if hopeless(err) {
			return err
		}
		w.rec.warn(Damaged, top.dir.own(), fmt.Errorf("go back into the directory, %d names left: %w", len(top.entries), err))
		top.entries = nil
		top.at = child.Hold() // the way up may lead through it all the same
		return nil
	}
	top.at = inode.NewHandle(fd)
	return nil
}

// descend opens the directory on top by the names that lead to it.
func (w *walker) descend() (int, error) {
	fd, err := unix.FcntlInt(uintptr(w.stack[0].at.FD), unix.F_DUPFD_CLOEXEC, 0)
	for i := 1; i < len(w.stack) && err == nil; i++ {
		var next int
		next, err = inode.OpenQuietly(fd, w.stack[i].dir.name, inode.DirFlags)
		unix.Close(fd)
		fd = next
	}
	if err != nil {
		return -1, err
	}
	if err := inode.Is(fd, w.stack[len(w.stack)-1].id); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
