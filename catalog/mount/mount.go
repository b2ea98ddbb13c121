// Package mount shows backups as files, with FUSE on Linux.
//
// A [Content] is one archive, whose root becomes the root of the mount, or a
// whole snapshot: a directory for each archive and a file for each disk image.
// Everything is read-only and never changes, so the kernel may keep what it has
// seen for as long as it likes. Nothing is read before somebody asks for it: a
// look at a file reads the tables of the directories on the way, the file's
// entry, and what of the content is asked for.
//
// A part that is damaged fails with EIO, and no more than that part; the log
// says which file it was. What is served comes from whoever fills in Content;
// package archive has readers for it.
package mount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// A Part is an archive or a plain file, such as a disk image.
type Part struct {
	Name string // in the root of the mount: "root.pxar", "drive-scsi0.img"

	Archive *pxar.Archive // shown as a directory

	// Where Archive is nil, the part is a file of Size bytes, read at random.
	File io.ReaderAt
	Size int64
}

// Content is what a mount shows.
type Content struct {
	Parts []Part    // in the order in which they are listed
	Time  time.Time // of everything that has none of its own, such as images

	// Flat shows the only part, an archive, in the root of the mount instead
	// of in a directory of its own.
	Flat bool
}

// maxParts leaves room in the numbers of inodes; a manifest has far fewer.
const maxParts = 1 << 15

func (c Content) check() error {
	switch {
	case len(c.Parts) == 0:
		return errors.New("there is nothing to mount")
	case len(c.Parts) > maxParts:
		return fmt.Errorf("%d archives are too many, at most %d can be mounted", len(c.Parts), maxParts)
	case c.Flat && (len(c.Parts) != 1 || c.Parts[0].Archive == nil):
		return errors.New("only a single archive can be the root of a mount")
	}
	seen := map[string]bool{}
	for _, p := range c.Parts {
		if c.Flat {
			break
		}
		if err := pxar.CheckName(p.Name); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
		if seen[p.Name] {
			return fmt.Errorf("part %q is there twice", p.Name)
		}
		if p.Archive == nil && (p.File == nil || p.Size < 0) {
			return fmt.Errorf("part %q has no content", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// Options say how a mount behaves. The zero value of a field means its default.
type Options struct {
	// AllowOther lets other users in, with the rights that the files in the
	// backup give them; without it only who mounted sees the files, all of
	// them. Users other than root need user_allow_other in /etc/fuse.conf.
	AllowOther bool

	Source string       // what df and mount show; default "holdfast"
	Ready  func()       // called once the files can be seen
	Log    *slog.Logger // default: discard
}

func (o Options) withDefaults() Options {
	o.Source = cmp.Or(o.Source, "holdfast")
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// ErrInUse says that a mount was detached while programs had files of it open,
// and that they could not be cut off from it.
var ErrInUse = errors.New("files of the mount are still in use")

// An opError is a refusal with a known cure.
type opError struct {
	msg, cure string
	err       error
}

func (e *opError) Error() string {
	if e.err != nil {
		return e.msg + ": " + e.err.Error()
	}
	return e.msg
}

// Hint is printed on its own line below the error.
func (e *opError) Hint() string  { return e.cure }
func (e *opError) Unwrap() error { return e.err }

// Mount shows c in the empty directory dir until ctx ends or somebody unmounts
// it, and then returns nil; the directory is as before. What programs have open
// when ctx ends fails from then on, and they are cut off from the mount. Where
// that cannot be done, for it needs root or /sys/fs/fuse/connections, Mount
// fails with [ErrInUse]: then a goroutine stays that answers them with errors
// until they have closed everything, but c is not read any more.
//
// Root mounts by itself; other users need the program fusermount3.
func Mount(ctx context.Context, dir string, c Content, opt Options) error {
	opt = opt.withDefaults()
	if err := c.check(); err != nil {
		return fmt.Errorf("mount on %s: %w", dir, err)
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return mount(ctx, dir, c, opt)
}

// checkDir makes sure that a mount hides nothing.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return &opError{"mount on " + dir, "name a directory that exists; it is the place where the files appear", err}
	}
	if len(entries) > 0 {
		return &opError{fmt.Sprintf("mount on %s: the directory is not empty", dir), "name an empty directory: what is in it would be hidden", nil}
	}
	return nil
}
