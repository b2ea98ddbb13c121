//go:build linux

package tree

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
)

// Extract restores an archive, or a part of it, into the directory target,
// which is made if it does not exist. Nothing outside of target is touched,
// whatever the archive says.
//
// What is damaged or unsafe, or is not accepted by the target, costs that
// entry only (a directory that cannot be read, what is below it): it is in the
// report, the rest is restored, and the error is an [IncompleteError]. A file
// whose content cannot be read to its end is not there afterwards. An
// attribute that cannot be set, or a device without the privilege to make
// one, is a warning only. Other errors end the work: one is [ExistsError], and
// a full disk another.
func Extract(ctx context.Context, archive *pxar.Archive, target string, opt ExtractOptions) (Report, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return Report{}, err
	}
	x := &extractor{
		archive: archive,
		opt:     opt,
		apply:   newApplier(opt),
		rec:     &recorder{observe: opt.Progress},
		flights: map[pxar.Position]chan struct{}{},
	}
	if err := x.run(ctx, target); err != nil {
		return x.rec.result(), fmt.Errorf("extract to %s: %w", target, err)
	}
	report := x.rec.result()
	if report.DamagedCount > 0 {
		return report, &IncompleteError{Target: target, Count: report.DamagedCount, First: report.firstDamage()}
	}
	return report, nil
}

// An extractor walks through an archive and creates directories; its writers
// create everything else.
type extractor struct {
	archive *pxar.Archive
	opt     ExtractOptions
	apply   *inode.Applier
	rec     *recorder

	base   string        // path in the archive of what becomes the target
	root   *inode.Handle // of the target, open until all is done
	stack  []level
	places []*place // those of stack that are there; the last one is open
	jobs   chan *job
	cancel context.CancelFunc

	mu sync.Mutex

	flights map[pxar.Position]chan struct{} // files being written; closed when done
	failed  map[pxar.Position]bool          // files that are not there
	fatal   error
}

// A level is a directory of the archive that is being walked through.
type level struct {
	node     *pxar.Node
	dir      *dir
	next     func() (*pxar.Node, error, bool) // what is left, in the order of the archive
	stop     func()                           // to be called when next is no longer
	selected bool                             // by a pattern, with what is below
	place    *place                           // nil until something in it is wanted
}

// run opens the target, walks, and returns when all writers have ended.
func (x *extractor) run(ctx context.Context, target string) error {
	start, err := x.archive.Find(x.opt.Subpath) // the root, if there is none
	if err != nil {
		return err
	}
	root, err := x.openTarget(target)
	if err != nil {
		return err
	}
	x.root = root.at.Hold()
	defer x.root.Drop()
	ctx, x.cancel = context.WithCancel(ctx)
	defer x.cancel()
	x.jobs = make(chan *job, 4*x.opt.Workers)
	var writers sync.WaitGroup
	for range x.opt.Workers {
		w := &writer{x: x, ctx: ctx, buf: inode.AlignedBuffer(copyBlock)}
		writers.Go(w.run)
	}
	err = x.walk(ctx, start, root)
	if err != nil {
		x.stop(err)
	}
	close(x.jobs)
	writers.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fatal
}

// stop ends the work for err, unless it ends for another error already.
func (x *extractor) stop(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.fatal == nil {
		x.fatal = err
	}
	x.cancel()
}

// walk goes through the archive from start, which becomes root if it is a
// directory, and an entry in root if not.
func (x *extractor) walk(ctx context.Context, start *pxar.Node, root *place) error {
	defer func() {
		for _, l := range x.stack {
			l.stop()
		}
		for _, p := range x.places {
			if p.at != nil {
				p.at.Drop()
			}
		}
	}()
	x.places = []*place{root}
	path := start.Path()
	selected := x.selectsPath(path, start.Kind == pxar.Dir)
	x.base = path
	if start.Kind != pxar.Dir {
		x.base, _ = cutLast(path)
	}
	root.dir = &dir{}
	if x.base != "" {
		root.dir = &dir{parent: &dir{}, name: x.base}
	}
	if start.Kind != pxar.Dir {
		if selected {
			x.dispatch(start, root)
		}
		return x.leavePlace()
	}
	root.meta = &start.Metadata
	x.push(start, root.dir, selected)
	x.stack[0].place = root
	for len(x.stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.step(); err != nil {
			return err
		}
	}
	return nil
}

// push begins to walk through the directory node. Its entries are read one by
// one, so that each is read together with its content, except far down: there
// the memory for many directories being read would add up.
func (x *extractor) push(node *pxar.Node, d *dir, selected bool) {
	entries := node.Entries()
	if len(x.stack) >= maxOpenDirs {
		entries = collect(entries)
	}
	l := level{node: node, dir: d, selected: selected}
	l.next, l.stop = iter.Pull2(entries)
	x.stack = append(x.stack, l)
}

// collect reads a sequence to its end.
func collect(seq iter.Seq2[*pxar.Node, error]) iter.Seq2[*pxar.Node, error] {
	type entry struct {
		node *pxar.Node
		err  error
	}
	var all []entry
	for node, err := range seq {
		all = append(all, entry{node, err})
	}
	return func(yield func(*pxar.Node, error) bool) {
		for _, e := range all {
			if !yield(e.node, e.err) {
				return
			}
		}
	}
}

// step handles the next entry of the directory on top of the stack.
func (x *extractor) step() error {
	top := &x.stack[len(x.stack)-1]
	node, err, ok := top.next()
	switch {
	case !ok:
		top.stop()
		place := top.place
		x.stack = x.stack[:len(x.stack)-1]
		if place == nil {
			return nil
		}
		return x.leavePlace()
	case err != nil:
		x.rec.warn(Damaged, top.dir.own(), fmt.Errorf("something in the directory, or all below it, is lost: %w", err))
		return x.abortOn(err)
	}
	if err := pxar.CheckName(node.Name); err != nil {
		x.rec.warn(Refused, top.dir.own(), err)
		return nil
	}
	selected := x.selects(top, node)
	if node.Kind == pxar.Dir {
		x.push(node, &dir{parent: top.dir, name: node.Name}, selected)
	}
	if !selected {
		return nil
	}
	if err := x.ensure(); err != nil {
		return err
	}
	if p := x.stack[len(x.stack)-1].place; node.Kind != pxar.Dir && p != nil {
		x.dispatch(node, p)
	}
	return nil
}

// abortOn returns err, which is of reading the archive, if it should end the
// work.
func (x *extractor) abortOn(err error) error {
	if x.opt.Abort != nil && x.opt.Abort(err) {
		return err
	}
	return nil
}

// cutLast splits the last component off a path.
func cutLast(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

func newApplier(opt ExtractOptions) *inode.Applier {
	return &inode.Applier{
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
		IgnoreOwnership: opt.IgnoreOwnership, IgnorePermissions: opt.IgnorePermissions,
		IgnoreACLs: opt.IgnoreACLs, IgnoreXattrs: opt.IgnoreXattrs,
	}
}
