package replication

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
)

// publish makes snapshots of what arrived: some groups at a time, the
// snapshots of each one after the other, oldest first.
func (r *run) publish(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(r.job.Workers, 1))
	for _, group := range r.groups {
		g.Go(func() error { return r.publishGroup(ctx, group) })
	}
	return g.Wait()
}

func (r *run) publishGroup(ctx context.Context, g *groupRun) error {
	out := &lines{to: r.cfg.Printf}
	if r.job.Workers > 1 {
		out.prefix = fmt.Sprintf("[%s] ", path.Join(string(g.To), g.Group.String()))
	}
	defer out.flush()
	if g.Refused != "" {
		g.failed.Store(true)
		r.failed(out, "group %s: %s", g.Group, g.Refused)
	}
	for _, f := range g.fetches {
		if err := r.publishOne(ctx, f, out); err != nil {
			return err
		}
		out.flush()
	}
	r.mu.Lock()
	r.report.Groups++
	r.done.Groups++
	n := r.done.Groups
	r.mu.Unlock()
	out.printf("percentage done: %.2f%% (%d/%d groups)", 100*float64(n)/float64(max(len(r.groups), 1)), n, len(r.groups))
	return nil
}

// publishOne waits for a snapshot and publishes it. Only the end of the run is
// an error.
func (r *run) publishOne(ctx context.Context, f *fetch, out *lines) error {
	if err := wait(ctx, f.prepared); err != nil {
		return err
	}
	defer func() {
		if f.slot {
			r.ahead.Release(1)
		}
		f.files, f.indexes, f.vouched = nil, nil, nil // the memory is for others
	}()
	if f.group.failed.Load() {
		return nil
	}
	began := time.Now()
	err := f.err
	if err == nil && !f.gone {
		if err = wait(ctx, f.whole); err != nil {
			return err
		}
		if lost := f.lost.Load(); lost != nil {
			err = *lost
		}
	}
	if err == nil && !f.gone {
		err = r.store(ctx, f)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.mu.Lock()
	r.done.Snapshots++
	r.mu.Unlock()
	switch {
	case f.gone:
		r.count(&r.report.Gone)
		out.printf("snapshot %s vanished from the source since the sync began", f.snapshot())
	case err != nil:
		f.group.failed.Store(true)
		r.failed(out, "sync snapshot %s failed: %v", f.snapshot(), err)
	default:
		out.printf("sync snapshot %s (%s) done, %.1f s", f.snapshot(), f.Why, time.Since(began).Seconds())
	}
	return nil
}

func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *run) count(n *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n++
}

// failed notes what went wrong and was no reason to stop.
func (r *run) failed(out *lines, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	r.mu.Lock()
	r.report.Errors = append(r.report.Errors, text)
	r.mu.Unlock()
	out.printf("ERROR: %s", text)
}

// store makes a snapshot here of what was fetched, or brings one that is here
// up to date.
func (r *run) store(ctx context.Context, f *fetch) error {
	if f.key != nil {
		if err := r.open(f); err != nil {
			return err
		}
	}
	local, err := r.cfg.Local.Manifest(f.group.To, f.snapshot())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case f.Why == plan.Corrupt:
		return r.mend(ctx, f)
	case err != nil:
		return err
	default:
		return r.renew(f, local)
	}
	if err := r.insert(ctx, f); err != nil {
		return err
	}
	r.count(&r.report.Pulled)
	if f.key != nil {
		r.count(&r.report.Decrypted)
	}
	return nil
}

func (r *run) insert(ctx context.Context, f *fetch) error {
	w, err := r.cfg.Local.Insert(ctx, f.group.To, f.snapshot(), r.job.Owner)
	if err != nil {
		return err
	}
	for _, file := range f.files {
		if x, ok := f.indexes[file.Name]; ok {
			err = w.PutIndex(file.Name, x)
		} else {
			err = w.PutBlob(file.Name, file.Data)
		}
		if err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	// Every site verifies for itself.
	if err = f.manifest.SetUnprotected(verifyState, nil); err == nil {
		if r.cfg.Pulled != nil {
			r.cfg.Pulled(f.group.To, f.snapshot())
		}
		err = w.Finish(ctx, f.manifest)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

const verifyState = "verify_state" // in manifests (PBS protocol notes §5.6)

// renew takes over what may change after a snapshot was finished: notes, and a
// log that came later.
func (r *run) renew(f *fetch, local *manifest.Manifest) error {
	same, err := r.same(f, local)
	if err != nil {
		return err
	}
	if !same {
		return &differs{f.snapshot()}
	}
	changed := false
	if notes := f.manifest.Notes(); notes != local.Notes() {
		if err := r.cfg.Local.SetNotes(f.group.To, f.snapshot(), notes); err != nil {
			return err
		}
		changed = true
	}
	for _, file := range f.files {
		if file.Name != manifest.LogName {
			continue
		}
		err := r.cfg.Local.AddLog(f.group.To, f.snapshot(), file.Data)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		changed = changed || err == nil
	}
	if changed {
		r.count(&r.report.Renewed)
	} else {
		r.count(&r.report.Skipped)
	}
	return nil
}

// same tells whether a snapshot is the one that is here.
func (r *run) same(f *fetch, local *manifest.Manifest) (bool, error) {
	if f.key != nil {
		return r.sameOpen(f, local)
	}
	theirs, err := f.manifest.Canonical()
	if err != nil {
		return false, err
	}
	ours, err := local.Canonical()
	return bytes.Equal(theirs, ours), err
}

// A differs is a snapshot that is another one at either side.
type differs struct{ snap naming.Snapshot }

func (e *differs) Error() string {
	return fmt.Sprintf("there is another snapshot of %s here, and neither replaces the other", e.snap)
}

// Hint is printed on its own line below the error.
func (e *differs) Hint() string {
	return "two sites may back up machines of the same ID: give this job a namespace of its own with --ns"
}

// mend makes a snapshot whole that failed its verification: chunks that were
// damaged or missing are here by now. Files are compared, and if one is not
// what it was, the snapshot goes to the trash and is made anew.
func (r *run) mend(ctx context.Context, f *fetch) error {
	whole := true
	for _, file := range f.files {
		if file.Name == manifest.LogName || vouch.Is(file.Name) {
			continue
		}
		if _, ok := f.indexes[file.Name]; ok {
			x, err := r.cfg.Local.ReadIndex(f.group.To, f.snapshot(), file.Name)
			whole = whole && err == nil && bytes.Equal(x.Bytes(), file.Data)
		} else {
			b, err := r.cfg.Local.ReadBlob(f.group.To, f.snapshot(), file.Name)
			whole = whole && err == nil && bytes.Equal(b, file.Data)
		}
	}
	if !whole {
		if err := r.cfg.Local.Forget(ctx, f.group.To, f.snapshot()); err != nil {
			return err
		}
		if err := r.insert(ctx, f); err != nil {
			return err
		}
	}
	if err := r.lease.Commit(ctx); err != nil {
		return err
	}
	snap := f.snapshot()
	report, err := verify.Run(ctx, r.cfg.Local, verify.Options{Namespace: f.group.To, Snapshot: &snap, Log: r.cfg.Log})
	if err != nil {
		return err
	}
	if report.Failed > 0 {
		return errors.New("it is damaged still: the source's copy is, or this disk")
	}
	r.count(&r.report.Renewed)
	return nil
}

// checkBlob checks a small file against the manifest, which does not list the
// log of the client.
func checkBlob(b chunks.Blob, want manifest.File, listed bool) error {
	if err := b.Check(); err != nil {
		return err
	}
	if listed && (uint64(len(b)) != want.Size || chunks.Digest(sha256.Sum256(b)) != want.Csum) {
		return errors.New("it is not what the manifest says")
	}
	return nil
}

// lines are lines of the task log about one group. With a prefix, which they
// have when several groups are pulled at the same time, they are kept until
// flush, so that those of one group stay together.
type lines struct {
	to     func(string, ...any)
	prefix string
	kept   []string
}

func (l *lines) printf(format string, a ...any) {
	if l.prefix == "" {
		l.to(format, a...)
		return
	}
	l.kept = append(l.kept, l.prefix+fmt.Sprintf(format, a...))
}

func (l *lines) flush() {
	for _, line := range l.kept {
		l.to("%s", line)
	}
	l.kept = nil
}
