//go:build linux

package tree

import (
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// openTarget makes the target directory if need be, and opens it.
func (x *extractor) openTarget(target string) (*place, error) {
	err := os.MkdirAll(target, modeNewDir)
	if err != nil {
		return nil, err
	}
	fd, err := inode.Open(unix.AT_FDCWD, target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_, err = inode.ReadNames(fd, 0, func() error { return nil })
	used := errors.Is(err, ErrTooManyEntries) // than none
	if used && x.opt.AllowExistingDirs {
		err = nil
	} else if used {
		err = &NotEmptyError{Target: target}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	root, err := newPlace(&dir{}, nil, fd, used)
	if err == nil {
		root.foreign = true
		root.acl = inode.HasDefaultACL(fd) && !x.opt.IgnoreACLs
	}
	return root, err
}

// ensure creates the directories on the stack that are not there yet. If one
// cannot be, what is below is lost.
func (x *extractor) ensure() error {
	for i := range x.stack {
		l := &x.stack[i]
		if l.place != nil {
			continue
		}
		p, err := x.makePlace(l)
		if err != nil {
			if fatalToTarget(err) {
				return fmt.Errorf("create the directory %q: %w", l.dir.own(), err)
			}
			x.rec.warn(Failed, l.dir.own(), fmt.Errorf("create the directory, everything below is lost: %w", err))
			for j := i; j < len(x.stack); j++ {
				x.stack[j].stop() // next says that there is no more
			}
			return nil
		}
		l.place = p
		x.places = append(x.places, p)
		if j := len(x.places) - 1 - maxOpenDirs; j >= 0 {
			x.places[j].at.Drop()
			x.places[j].at = nil
		}
	}
	return nil
}

// makePlace creates the directory of l in the deepest one that is there.
func (x *extractor) makePlace(l *level) (*place, error) {
	parent := x.places[len(x.places)-1]
	perm := uint32(modeNewDir)
	if x.opt.IgnorePermissions {
		perm = 0o777 // reduced by the umask
	}
	fd, existed, err := parent.makeDir(l.dir.name, perm, &x.opt)
	if err != nil {
		return nil, err
	}
	p, err := newPlace(l.dir, &l.node.Metadata, fd, existed)
	if err == nil && existed {
		p.acl = inode.HasDefaultACL(fd) && !x.opt.IgnoreACLs
	}
	return p, err
}

// leavePlace leaves the deepest directory, and opens the one above again if
// it was closed.
func (x *extractor) leavePlace() error {
	last := len(x.places) - 1
	p := x.places[last]
	if last > 0 && x.places[last-1].at == nil {
		fd, err := inode.ReopenParent(p.at.FD, x.places[last-1].id)
		if err != nil {
			return fmt.Errorf("go back to the directory %q: %w", x.places[last-1].dir.own(), err)
		}
		x.places[last-1].at = inode.NewHandle(fd)
	}
	x.places = x.places[:last]
	p.last, p.at = p.at, nil
	x.release(p)
	return nil
}

// release is called when the walker has left p, and for each file in it that
// is done. The last call completes it.
func (x *extractor) release(p *place) {
	if p.pending.Add(-1) > 0 {
		return
	}
	defer p.last.Drop()
	if p.meta == nil || x.stopped() {
		return
	}
	for _, err := range x.apply.ToOpen(p.last.FD, p.meta, p.foreign) {
		x.rec.warn(Attribute, p.dir.own(), err)
	}
	x.rec.count(func(r *Report) *int64 { return &r.Directories }, 0)
}

func (x *extractor) stopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fatal != nil
}
