//go:build linux

package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// hopeless reports whether err will hit the next file just as well, so that
// going on would archive nothing and call that a backup.
func hopeless(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// leftOut records that an entry is not archived for err. It returns err if
// the whole archive should end.
func leftOut(rec *recorder, err error, path func() string) error {
	if hopeless(err) {
		return fmt.Errorf("read %q: %w", path(), err)
	}
	kind := Damaged
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE):
		kind = Vanished
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		kind = Unreadable
	case errors.Is(err, inode.ErrKind) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO):
		kind, err = Changed, inode.ErrKind
	}
	rec.warn(kind, path(), err)
	return nil
}
