//go:build linux

package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// A job is one entry that is not a directory, to be created in a directory.
type job struct {
	node  *pxar.Node
	place *place
	at    *inode.Handle
	wait  chan struct{} // of a hard link: the file it is another name of is being written until this is closed
	done  chan struct{} // of a file: closed when it is written
}

func (j *job) path() string { return j.place.dir.path(j.node.Name) }

// dispatch hands an entry to a writer.
func (x *extractor) dispatch(node *pxar.Node, p *place) {
	j := &job{node: node, place: p, at: p.at.Hold()}
	p.pending.Add(1)
	x.mu.Lock()
	switch node.Kind {
	case pxar.File:
		j.done = make(chan struct{})
		x.flights[node.Position] = j.done
	case pxar.Hardlink:
		j.wait = x.flights[node.Link]
	}
	x.mu.Unlock()
	x.jobs <- j // writers take every job, also when the work has ended
}

// A writer creates entries, one after the other.
type writer struct {
	x   *extractor
	ctx context.Context
	buf []byte
}

func (w *writer) run() {
	for j := range w.x.jobs {
		err := w.ctx.Err()
		if err == nil {
			err = w.create(j)
		}
		w.finish(j, err)
	}
}

// finish says how a job ended. What is not there is known before anybody who
// waits for it is woken.
func (w *writer) finish(j *job, err error) {
	x := w.x
	switch {
	case err == nil:
	case w.ctx.Err() != nil:
		x.stop(w.ctx.Err())
	case fatalToTarget(err):
		x.stop(fmt.Errorf("create %q: %w", j.path(), err))
	case j.node.Kind.IsDevice() && errors.Is(err, unix.EPERM):
		x.rec.warn(Skipped, j.path(), fmt.Errorf("create the device: %w", err))
	case errors.As(err, new(*contentError)):
		x.rec.warn(Damaged, j.path(), err)
		if fatal := x.abortOn(err); fatal != nil {
			x.stop(fatal)
		}
	default:
		x.rec.warn(Failed, j.path(), fmt.Errorf("create it: %w", err))
	}
	if j.done != nil {
		x.mu.Lock()
		delete(x.flights, j.node.Position)
		if err != nil {
			if x.failed == nil {
				x.failed = map[pxar.Position]bool{}
			}
			x.failed[j.node.Position] = true
		}
		x.mu.Unlock()
		close(j.done)
	}
	j.at.Drop()
	x.release(j.place)
}

// fatalToTarget reports whether err will hit the next entry just as well, or
// is for the user to decide about.
func fatalToTarget(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO} {
		if errors.Is(err, e) && !errors.As(err, new(*contentError)) {
			return true
		}
	}
	return hopeless(err) || errors.As(err, new(*ExistsError))
}

// A contentError is a failure to read the archive, as opposed to one to write
// the target.
type contentError struct {
	off int64
	err error
}

func (e *contentError) Error() string {
	return fmt.Sprintf("read its content at byte %d: %v", e.off, e.err)
}
func (e *contentError) Unwrap() error { return e.err }

func (w *writer) create(j *job) error {
	switch j.node.Kind {
	case pxar.File:
		return w.file(j, j.node)
	case pxar.Hardlink:
		return w.hardlink(j)
	case pxar.Symlink:
		return w.named(j, func(r *Report) *int64 { return &r.Symlinks }, func(name string) error {
			return unix.Symlinkat(j.node.Target, j.at.FD, name)
		})
	case pxar.Fifo:
		return w.node(j, func(r *Report) *int64 { return &r.Fifos })
	case pxar.Socket:
		return w.node(j, func(r *Report) *int64 { return &r.Sockets })
	case pxar.BlockDevice, pxar.CharDevice:
		return w.node(j, func(r *Report) *int64 { return &r.Devices })
	}
	return fmt.Errorf("a %v is not known", j.node.Kind)
}

// node creates a fifo, a socket or a device.
func (w *writer) node(j *job, which func(*Report) *int64) error {
	dev := j.node.Device
	if dev.Major > 0xfff || dev.Minor > 0xfffff {
		return fmt.Errorf("device number %d:%d is larger than any", dev.Major, dev.Minor)
	}
	number := int(unix.Mkdev(uint32(dev.Major), uint32(dev.Minor)))
	return w.named(j, which, func(name string) error {
		return unix.Mknodat(j.at.FD, name, j.node.Mode&unix.S_IFMT|w.perm(), number)
	})
}

// perm is the mode that something has until it gets its own.
func (w *writer) perm() uint32 {
	if w.x.opt.IgnorePermissions {
		return 0o666 // reduced by the umask
	}
	return modeNew
}

// named creates something without content by the call make.
func (w *writer) named(j *job, which func(*Report) *int64, make func(name string) error) error {
	used, err := j.place.create(j.at, j.node.Name, w.x.opt.Overwrite, make)
	if err != nil {
		return err
	}
	for _, err := range w.x.apply.ToName(j.at.FD, used, &j.node.Metadata) {
		w.x.rec.warn(Attribute, j.path(), err)
	}
	if err := commit(j.at, used, j.node.Name); err != nil {
		return err
	}
	w.x.rec.count(which, 0)
	return nil
}

// file creates a regular file with the content and metadata of node. If that
// fails, nothing of it is left.
func (w *writer) file(j *job, node *pxar.Node) error {
	fd := -1
	used, err := j.place.create(j.at, j.node.Name, w.x.opt.Overwrite, func(name string) (err error) {
		fd, err = inode.Open(j.at.FD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, w.perm())
		return err
	})
	if err != nil {
		return err
	}
	err = w.fill(fd, node)
	if err == nil {
		w.warn(j, w.x.apply.ToOpen(fd, &node.Metadata, j.place.acl))
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil {
		err = commit(j.at, used, j.node.Name)
	}
	if err != nil {
		_ = unix.Unlinkat(j.at.FD, used, 0) // the error that counts is err
		return err
	}
	w.x.rec.count(func(r *Report) *int64 { return &r.Files }, node.Size)
	return nil
}

func (w *writer) warn(j *job, errs []error) {
	for _, err := range errs {
		w.x.rec.warn(Attribute, j.path(), err)
	}
}
