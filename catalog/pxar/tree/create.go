//go:build linux

package tree

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// maxAhead is how many entries are between the walker and the archive. It
// bounds the memory of files read ahead (maxSmall each, 28 MiB together) and
// the descriptors (one for each entry, one for the directory of each).
const maxAhead = 112

// Create archives the directory src to s. What cannot be read, or changes
// while it is read, is a warning in the report, and the rest is archived; an
// error means that there is no archive: src itself cannot be read, s failed,
// a directory has too many entries ([LimitError]), or ctx has ended.
//
// Sockets, fifos and devices are archived as such and never opened. Where
// another file system begins the directory is archived without its contents,
// unless the options say otherwise; contents of file systems like proc never
// are. Access times of files stay as they are where the kernel lets us.
func Create(ctx context.Context, src string, s Sinks, opt Options) (Report, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if opt.SkipLostAndFound {
		lost, err := match.Parse("lost+found")
		if err != nil {
			return Report{}, err
		}
		opt.Exclude = append(slices.Clone(opt.Exclude), lost)
	}
	if opt.pread == nil {
		opt.pread = inode.Read
	}
	root, err := inode.OpenQuietly(unix.AT_FDCWD, src, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return Report{}, fmt.Errorf("archive the directory %s: %w", src, err)
	}
	a := &archiver{sinks: s, opt: opt, rec: &recorder{observe: opt.Progress}, links: new(linkTable)}
	if err := a.run(ctx, root); err != nil {
		return a.rec.result(), fmt.Errorf("archive the directory %s: %w", src, err)
	}
	return a.rec.result(), nil
}

// An archiver writes down what the walker finds and the readers read.
type archiver struct {
	sinks Sinks
	opt   Options
	rec   *recorder
	links *linkTable

	enc   *pxar.Encoder
	depth int
	buf   []byte // for large files
}

// run starts the walker and the readers, writes the archive in their order,
// and returns when all of them have ended and closed what they opened.
func (a *archiver) run(ctx context.Context, root int) error {
	ctx, cancel := context.WithCancel(ctx)
	ordered, jobs := make(chan *node, maxAhead), make(chan *node, maxAhead)
	var all sync.WaitGroup
	for range a.opt.Workers {
		r := &reader{ctx: ctx, opt: a.opt, rec: a.rec, links: a.links, scan: inode.NewScanner()}
		all.Go(func() { r.run(jobs) })
	}
	var walkErr error
	all.Go(func() {
		defer close(ordered)
		defer close(jobs)
		w := &walker{ctx: ctx, opt: a.opt, rec: a.rec, scan: inode.NewScanner(), rules: slices.Clone(a.opt.Exclude)}
		w.emit = func(n *node) error { return send(ctx, n, ordered, jobs) }
		walkErr = w.walk(root)
	})
	err := a.consume(ctx, ordered)
	cancel()
	for n := range ordered {
		n.settle()
	}
	all.Wait()
	if err == nil {
		err = walkErr
	}
	if err == nil {
		err = a.enc.Close()
	}
	return err
}

// send queues n for the archive, and for a reader if there is something to
// read. At the end of ctx it drops n.
func send(ctx context.Context, n *node, ordered, jobs chan<- *node) error {
	n.file = -1
	if n.op == opEntry {
		n.done = make(chan struct{})
	}
	select {
	case ordered <- n:
	case <-ctx.Done():
		if n.at != nil {
			n.at.Drop()
		}
		return ctx.Err()
	}
	if n.done != nil {
		jobs <- n // never blocks for long: readers take all there are, whatever happens
	}
	return nil
}

// settle waits until nobody works on n, and gives back what it holds.
func (n *node) settle() {
	if n.done != nil {
		<-n.done
	}
	n.release()
}

// consume writes nodes to the archive as they come.
func (a *archiver) consume(ctx context.Context, ordered <-chan *node) error {
	for n := range ordered {
		if n.done != nil {
			<-n.done
		}
		err := ctx.Err()
		if err == nil {
			err = a.write(ctx, n)
		}
		n.release()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// write puts one node into the archive and the catalog.
func (a *archiver) write(ctx context.Context, n *node) error {
	switch n.op {
	case opEnter:
		return a.enterDir(n)
	case opLeave:
		return a.leaveDir()
	case opSynthetic:
		return a.excludes(n)
	}
	if n.err != nil {
		if n.err == errUnknown {
			a.rec.warn(Unknown, n.path(), n.err)
			return nil
		}
		return leftOut(a.rec, n.err, n.path)
	}
	if n.kind == unix.DT_REG {
		return a.file(ctx, n)
	}
	return a.other(n)
}

func (a *archiver) enterDir(n *node) error {
	a.depth++
	a.rec.count(func(r *Report) *int64 { return &r.Directories }, 0)
	if n.dir.parent == nil {
		var err error
		a.enc, err = pxar.NewEncoder(a.sinks.Archive, n.meta)
		return err
	}
	if err := a.enc.BeginDir(n.dir.name, n.meta); err != nil {
		return err
	}
	if a.sinks.Catalog == nil {
		return nil
	}
	return a.sinks.Catalog.BeginDir(n.dir.name)
}

func (a *archiver) leaveDir() error {
	if a.depth--; a.depth == 0 {
		return nil // the root ends with the archive
	}
	if err := a.enc.EndDir(); err != nil {
		return err
	}
	if a.sinks.Catalog == nil {
		return nil
	}
	return a.sinks.Catalog.EndDir()
}

// file writes a regular file, or a reference to the other name of it that is
// in the archive already.
func (a *archiver) file(ctx context.Context, n *node) error {
	if n.links > 1 {
		if first := a.links.first(n); first != nil {
			if done, err := a.hardlink(n, first); done || err != nil {
				return err
			}
		}
	}
	w, at, err := a.enc.File(n.name, n.meta, n.stat.Size)
	if err != nil {
		return err
	}
	if err := a.content(ctx, n, w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if n.links > 1 {
		a.links.add(n, at)
	}
	a.rec.count(func(r *Report) *int64 { return &r.Files }, n.stat.Size)
	if a.sinks.Catalog == nil {
		return nil
	}
	return a.sinks.Catalog.File(n.name, uint64(n.stat.Size), n.meta.Mtime.Sec)
}

// hardlink refers to the name that was archived first. The format has room
// for a path of pxar.MaxName bytes; a file whose first name lies deeper is
// archived again.
func (a *archiver) hardlink(n *node, first *linkedFile) (done bool, err error) {
	target := first.dir.path(first.name)
	if len(target) > pxar.MaxName {
		return false, nil
	}
	if err := a.enc.Hardlink(n.name, target, first.at); err != nil {
		return false, err
	}
	a.rec.count(func(r *Report) *int64 { return &r.Hardlinks }, 0)
	if a.sinks.Catalog == nil {
		return true, nil
	}
	return true, a.sinks.Catalog.Add(n.name, pxar.CatalogHardlink)
}

// content writes what is in a file, and warns of what happened to it.
func (a *archiver) content(ctx context.Context, n *node, w io.Writer) error {
	if n.content != nil {
		a.warnChanged(n, n.changed)
		_, err := w.Write(*n.content)
		return err
	}
	if a.buf == nil {
		a.buf = make([]byte, readBlock)
	}
	r := &fileReader{ctx: ctx, pread: a.opt.pread, fd: n.file, size: n.stat.Size, buf: a.buf}
	if err := r.copyTo(w); err != nil {
		return err
	}
	switch damage := r.damage(); {
	case damage != nil:
		a.rec.warn(Damaged, n.path(), damage)
	case r.shrank:
		a.warnChanged(n, errShrank)
	default:
		a.warnChanged(n, changedSince(n.file, n.stat))
	}
	return nil
}

func (a *archiver) warnChanged(n *node, err error) {
	switch err {
	case nil:
	case errShrank:
		a.rec.warn(Shrank, n.path(), err)
	case errGrew:
		a.rec.warn(Grew, n.path(), err)
	default:
		a.rec.warn(Changed, n.path(), err)
	}
}

// other writes what has no content.
func (a *archiver) other(n *node) error {
	var err error
	var which func(*Report) *int64
	var inCatalog pxar.CatalogType
	switch n.kind {
	case unix.DT_LNK:
		which, inCatalog = func(r *Report) *int64 { return &r.Symlinks }, pxar.CatalogSymlink
		err = a.enc.Symlink(n.name, n.meta, n.target)
	case unix.DT_CHR:
		which, inCatalog = func(r *Report) *int64 { return &r.Devices }, pxar.CatalogCharDevice
		err = a.enc.Device(n.name, n.meta, n.device)
	case unix.DT_BLK:
		which, inCatalog = func(r *Report) *int64 { return &r.Devices }, pxar.CatalogBlockDevice
		err = a.enc.Device(n.name, n.meta, n.device)
	case unix.DT_FIFO:
		which, inCatalog = func(r *Report) *int64 { return &r.Fifos }, pxar.CatalogFifo
		err = a.enc.Node(n.name, n.meta)
	default:
		which, inCatalog = func(r *Report) *int64 { return &r.Sockets }, pxar.CatalogSocket
		err = a.enc.Node(n.name, n.meta)
	}
	if err != nil {
		return err
	}
	a.rec.count(which, 0)
	if a.sinks.Catalog == nil {
		return nil
	}
	return a.sinks.Catalog.Add(n.name, inCatalog)
}

// excludes writes the file that says what the command line excluded, as the
// official client does: root's, readable for root alone, of 1970.
func (a *archiver) excludes(n *node) error {
	var text strings.Builder
	for _, p := range a.opt.Exclude {
		text.WriteString(p.String())
		text.WriteByte('\n')
	}
	size := int64(text.Len())
	w, _, err := a.enc.File(n.name, &pxar.Metadata{Mode: unix.S_IFREG | 0o600}, size)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	a.rec.count(func(r *Report) *int64 { return &r.Files }, size)
	if a.sinks.Catalog == nil {
		return nil
	}
	return a.sinks.Catalog.File(n.name, uint64(size), 0)
}
