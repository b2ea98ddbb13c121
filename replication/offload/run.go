package offload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/catalog/tier/sample"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// A run is one run of a job.
type run struct {
	*Offloader
	job    Job
	lease  *gc.Session
	report Report
	done   Progress
	failed map[string]bool // groups, of which the rest is left

	// What waits for the next batch.
	want  pack.Set // entries of the source that the bucket lacks
	ds    []chunks.Digest
	bytes int64 // of content
	whole []*copying
}

// A copying is a snapshot that is being copied. It cannot be removed here meanwhile.
type copying struct {
	*catalog.Reader
	group plan.GroupPlan
	snap  naming.Snapshot
	index map[string]chunks.Index
	blobs map[string]chunks.Blob
}

func (r *run) run(ctx context.Context) (err error) {
	pl, err := r.plan(ctx, r.job)
	if err != nil {
		return err
	}
	if r.lease, err = r.Offloader.lease(r.job.ID); err != nil {
		return err
	}
	defer func() {
		for _, s := range r.whole {
			s.Close()
		}
		if err == nil && len(r.report.Errors) == 0 {
			r.lease.Abort() // snapshots keep their chunks now
		} else if cerr := r.lease.Commit(context.WithoutCancel(ctx)); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	// What an earlier run had sent is named first, so that it is not sent again.
	if _, err := r.cfg.To.Publish(ctx); err != nil {
		return err
	}
	n, _ := pl.Snapshots()
	r.done.SnapshotsTotal = n
	r.cfg.Printf("found %d groups (out of %d total), %d snapshots to offload or to look at again", len(pl.Groups), pl.Total, n)
	for _, ns := range append(above(r.job.To), pl.Create...) {
		if err := r.cfg.To.Datastore().CreateNamespace(ns); err != nil {
			return fmt.Errorf("make namespace %q: %w", ns, err)
		}
	}
	for _, g := range pl.Groups {
		r.report.Skipped += len(g.Skip)
		if g.Refused != "" {
			r.fail(g, "group %s: %s", g.Group, g.Refused)
			continue
		}
		for _, f := range g.Fetch {
			if err := r.take(ctx, g, f); err != nil {
				return err
			}
		}
	}
	return r.flush(ctx)
}

// above returns ns and the namespaces above it, those first.
func above(ns naming.Namespace) []naming.Namespace {
	up, ok := ns.Parent()
	if !ok {
		return nil
	}
	return append(above(up), ns)
}

// fail notes what went wrong with a group, and was no reason to stop. Its later
// snapshots wait: whoever has a newer one does not take an older one.
func (r *run) fail(g plan.GroupPlan, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	r.failed[key(g)] = true
	r.report.Errors = append(r.report.Errors, text)
	r.cfg.Warnf("ERROR: %s", text)
}

func key(g plan.GroupPlan) string { return path.Join(string(g.To), g.Group.String()) }

// maxOpen is how many snapshots a batch has at most.
const maxOpen = 256

// take puts a snapshot, and what the bucket lacks of it, into the batch.
func (r *run) take(ctx context.Context, g plan.GroupPlan, f plan.Fetch) error {
	snap := naming.Snapshot{Group: g.Group, Time: f.Time}
	if r.failed[key(g)] || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, err := r.open(ctx, g, snap)
	if errors.Is(err, fs.ErrNotExist) {
		r.report.Gone++
		return nil
	}
	if err != nil {
		r.fail(g, "read snapshot %s: %v", snap, err)
		return nil
	}
	if _, err := r.cfg.To.Datastore().Manifest(g.To, snap); err == nil {
		defer s.Close()
		if err := r.renew(s); err != nil {
			r.fail(g, "snapshot %s: %v", snap, err)
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.index)) {
		if err := r.wantAll(ctx, s.index[name]); err != nil {
			s.Close()
			return err
		}
	}
	r.whole = append(r.whole, s)
	if len(r.whole) >= maxOpen || r.bytes >= r.cfg.BatchBytes {
		return r.flush(ctx)
	}
	return nil
}

// open reads the files of a snapshot.
func (r *run) open(ctx context.Context, g plan.GroupPlan, snap naming.Snapshot) (s *copying, err error) {
	reader, err := r.cfg.From.OpenSnapshot(ctx, g.From, snap)
	if err != nil {
		return nil, err
	}
	s = &copying{Reader: reader, group: g, snap: snap, index: map[string]chunks.Index{}, blobs: map[string]chunks.Blob{}}
	defer func() {
		if err != nil {
			reader.Close()
		}
	}()
	names, err := r.cfg.From.Files(g.From, snap)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		switch {
		case name == manifestName:
		case roots.IsIndex(name):
			s.index[name], err = reader.Index(name)
		default:
			s.blobs[name], err = reader.Blob(name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
}

const manifestName = "index.json.blob"

// block is how many chunks are looked up at once: so few that a batch does not
// grow far beyond its size.
func (r *run) block() int { return int(max(1, min(256, r.cfg.BatchBytes>>22))) }

// wantAll notes which chunks of an index the bucket lacks.
func (r *run) wantAll(ctx context.Context, x chunks.Index) error {
	return r.lacks(ctx, x, r.lease.Missing, func(d chunks.Digest, ref pack.Ref, held bool, size int64) {
		if held && r.want.Add(ref) {
			r.ds = append(r.ds, d)
			r.bytes += size
		}
	}, func() error {
		if r.bytes < r.cfg.BatchBytes {
			return nil
		}
		return r.send(ctx)
	})
}

// lacks tells of the chunks of an index that are missing where they lie here, with
// their length; held: they do. Every now and then it calls full.
func (r *run) lacks(ctx context.Context, x chunks.Index, missing func(context.Context, []chunks.Digest) ([]chunks.Digest, error),
	each func(d chunks.Digest, ref pack.Ref, held bool, size int64), full func() error) error {
	sizes := map[chunks.Digest]int64{}
	var ds []chunks.Digest
	for i, d := range x.All() {
		if _, twice := sizes[d]; !twice {
			start, end := x.Range(i)
			sizes[d] = end - start
			ds = append(ds, d)
		}
		if len(ds) < r.block() && i+1 < x.Len() {
			continue
		}
		list, err := missing(ctx, ds)
		if err != nil {
			return err
		}
		r.cfg.From.Local().LocateMany(list, func(i int, ref pack.Ref, held bool) { each(list[i], ref, held, sizes[list[i]]) })
		ds = ds[:0]
		if err := full(); err != nil {
			return err
		}
		if len(sizes) > 1<<16 {
			clear(sizes)
		}
	}
	return nil
}

// flush sends the batch, and writes down the snapshots that are whole with it.
func (r *run) flush(ctx context.Context) error {
	if err := r.send(ctx); err != nil {
		return err
	}
	for _, s := range r.whole {
		if r.failed[key(s.group)] {
			continue
		}
		if err := r.insert(ctx, s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.fail(s.group, "offload snapshot %s failed: %v", s.snap, err)
			continue
		}
		r.report.Snapshots++
		r.done.Snapshots++
		r.cfg.Printf("offload snapshot %s done", path.Join(string(s.group.To), s.snap.String()))
		r.cfg.Progress(r.done)
	}
	for _, s := range r.whole {
		s.Close()
	}
	r.whole = nil
	m, err := r.cfg.To.Publish(ctx)
	if err == nil && m.Waiting > 0 {
		r.cfg.Printf("%d snapshots of the datastore wait for chunks that are not in the bucket yet", m.Waiting)
	}
	return err
}

// send brings the chunks of the batch into the bucket and reads a few of them back.
func (r *run) send(ctx context.Context) error {
	if len(r.ds) == 0 {
		return nil
	}
	l, err := loads(ctx, r.cfg.From, &r.want, !r.cfg.To.Encrypted())
	if err != nil {
		return err
	}
	ds := r.ds
	sent, err := r.cfg.To.Adopt(ctx, l.list, func() error {
		_, err := r.lease.Missing(context.WithoutCancel(ctx), ds) // pins what is there
		return err
	})
	if err != nil {
		return err
	}
	if err := r.lease.Commit(ctx); err != nil {
		return err
	}
	r.report.Chunks, r.report.Bytes = r.report.Chunks+l.chunks, r.report.Bytes+l.bytes
	r.report.Packs, r.report.Whole = r.report.Packs+sent.Packs, r.report.Whole+sent.Whole
	r.done.Bytes, r.done.Packs = r.done.Bytes+r.bytes, r.done.Packs+sent.Packs
	r.cfg.Printf("%d chunks in %d packs are in the bucket, %d of the packs as they were", l.chunks, sent.Packs, sent.Whole)
	r.cfg.Progress(r.done)
	r.want, r.ds, r.bytes = pack.Set{}, nil, 0
	return r.lookBack(ctx, ds, l.back(r.cfg.To.Encrypted()).ds)
}

// lookBack compares some of what was sent. A bucket that has not what it has just
// confirmed is believed nothing of this batch: none of its snapshots is written
// down. What is damaged or gone is denied, so that the next run sends it again.
func (r *run) lookBack(ctx context.Context, ds, some []chunks.Digest) error {
	var found sample.Report
	err := sample.Read(ctx, r.cfg.To.Datastore(), some, func(text string) { r.cfg.Warnf("read back: %s", text) }, &found)
	r.report.Read += found.Chunks
	if err != nil || found.Bad() == 0 {
		return err
	}
	return errors.Join(&broken{found.Damaged, found.Missing, len(some)}, r.denyPacks(ds, found.Gone))
}

// denyPacks denies those of ds that lie in one pack with one that is gone: that
// pack is not there.
func (r *run) denyPacks(ds, gone []chunks.Digest) (err error) {
	c := r.cfg.To.Datastore().Chunks()
	lost := map[uint32]bool{}
	for _, d := range gone {
		if ref, held := c.Locate(d); held {
			lost[ref.Pack] = true
		}
	}
	for _, d := range ds {
		if ref, held := c.Locate(d); held && lost[ref.Pack] {
			err = errors.Join(err, c.Quarantine(ref))
		}
	}
	return err
}

// A broken is a batch that was confirmed and cannot be read back.
type broken struct{ damaged, missing, read int }

func (e *broken) Error() string {
	return fmt.Sprintf("the bucket has not what it confirmed: of %d chunks that were read back %d are damaged and %d missing", e.read, e.damaged, e.missing)
}

// Hint is printed on its own line below the error.
func (e *broken) Hint() string {
	return "the next run sends them again; audit the datastore, and if this returns, find out what else writes to the bucket"
}

// insert writes the files of a snapshot whose chunks are all there.
func (r *run) insert(ctx context.Context, s *copying) error {
	for name, x := range s.index {
		var ds []chunks.Digest
		for _, d := range x.All() {
			ds = append(ds, d)
		}
		missing, err := r.lease.Missing(ctx, ds)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return &lacking{name, len(missing), missing[0]}
		}
	}
	w, err := r.cfg.To.Datastore().Insert(ctx, s.group.To, s.snap, r.job.Owner)
	if err != nil {
		return err
	}
	for name, x := range s.index {
		err = errors.Join(err, w.PutIndex(name, x))
	}
	for name, b := range s.blobs {
		err = errors.Join(err, w.PutBlob(name, b))
	}
	m := s.Manifest()
	if err == nil { // each datastore verifies for itself
		err = m.SetUnprotected("verify_state", nil)
	}
	if err == nil {
		err = w.Finish(ctx, m)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

// A lacking is a snapshot with chunks that are not to be had.
type lacking struct {
	index string
	n     int
	first chunks.Digest
}

func (e *lacking) Error() string {
	return fmt.Sprintf("%d chunks of %s are damaged or missing, %s first", e.n, e.index, e.first.Short())
}

// Hint is printed on its own line below the error.
func (e *lacking) Hint() string {
	return "verify the datastore here; a later backup or another site heals it, and the next run goes on"
}

// renew takes over what may change after a snapshot was finished: its notes.
func (r *run) renew(s *copying) error {
	there, err := r.cfg.To.Datastore().Manifest(s.group.To, s.snap)
	if err != nil {
		return err
	}
	ours, err := s.Manifest().Canonical()
	if err != nil {
		return err
	}
	theirs, err := there.Canonical()
	if err != nil {
		return err
	}
	r.done.Snapshots++
	switch notes := s.Manifest().Notes(); {
	case !bytes.Equal(ours, theirs):
		return errors.New("there is another snapshot of that time in the bucket, and neither replaces the other: give this job a namespace of its own with --to-ns")
	case notes != there.Notes():
		r.report.Renewed++
		return r.cfg.To.Datastore().SetNotes(s.group.To, s.snap, notes)
	}
	r.report.Skipped++
	return nil
}
