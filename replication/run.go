package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/replication/partial"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A run is one pull.
type run struct {
	*Puller
	job     Job
	plan    *plan.Plan
	first   int // place of the source that the plan is made of
	started time.Time
	lease   *gc.Session
	swarm   *swarm.Swarm
	parts   *partial.Store
	groups  []*groupRun
	wanted  *semaphore.Weighted // chunks that the swarm is told of
	ahead   *semaphore.Weighted // snapshots that are prepared and not published

	book     vouch.Book // of encrypted chunks that are wanted
	unproven atomic.Int64
	fresh    atomic.Int64 // chunks put since the last commit
	opened   opened       // chunks that are decrypted

	mu     sync.Mutex // of report and progress
	report Report
	done   Progress
}

// How far fetching runs ahead of publishing.
const (
	maxWanted = 1 << 16 // chunks
	maxAhead  = 256     // snapshots
	maxBatch  = 64      // snapshots whose files are asked for together
)

// A groupRun is a group that is being pulled.
type groupRun struct {
	plan.GroupPlan
	fetches []*fetch
	failed  atomic.Bool // the rest of it is left
}

// A fetch is a snapshot that is being pulled.
type fetch struct {
	plan.Fetch
	group *groupRun

	prepared chan struct{} // closed when what follows is set
	err      error
	gone     bool // it is not at the source any more
	slot     bool // it holds one of run.ahead
	manifest *manifest.Manifest
	files    []wire.File // without the manifest
	indexes  map[string]chunks.Index
	vouched  []chunks.Blob // those of files that are signed sums
	key      *chunks.Key   // what the snapshot is decrypted with; nil: it stays as it is

	pending atomic.Int64  // chunks to come, and one while they are being counted
	whole   chan struct{} // closed when pending is 0
	lost    atomic.Pointer[error]
}

func (f *fetch) snapshot() naming.Snapshot {
	return naming.Snapshot{Group: f.group.Group, Time: f.Time}
}

// begin prints what is going to happen and makes namespaces.
func (r *run) begin(ctx context.Context) error {
	r.wanted, r.ahead = semaphore.NewWeighted(maxWanted), semaphore.NewWeighted(maxAhead)
	r.cfg.Printf("pull job '%s': %s (%s) to %s", r.job.ID, r.cfg.Sources[r.first].Name(), shown(r.job.From), shown(r.job.To))
	r.cfg.Printf("found %d groups to sync (out of %d total)", len(r.plan.Groups), r.plan.Total)
	lacking, err := r.makeNamespaces()
	if err != nil {
		return err
	}
	for _, g := range r.plan.Groups {
		if lacking[g.To] {
			continue
		}
		gr := &groupRun{GroupPlan: g}
		for _, f := range g.Fetch {
			gr.fetches = append(gr.fetches, &fetch{Fetch: f, group: gr, prepared: make(chan struct{}), whole: make(chan struct{})})
		}
		r.groups = append(r.groups, gr)
		r.report.Skipped += len(g.Skip)
		r.done.SnapshotsTotal += len(g.Fetch)
	}
	r.done.GroupsTotal = len(r.groups)
	return ctx.Err()
}

// put stores a chunk of the swarm.
func (r *run) put(ctx context.Context, d chunks.Digest, b chunks.Blob) error {
	r.fresh.Add(1)
	if key := r.opened.key(d); key != nil {
		return r.putOpen(ctx, d, b, key)
	}
	_, err := r.lease.Put(ctx, d, b)
	return err
}

// check says whether a blob is what it has to be. The name of an encrypted one
// says nothing about its bytes to us, who have no key.
func (r *run) check(d chunks.Digest, b chunks.Blob) error {
	if key := r.opened.key(d); key != nil {
		return b.Verify(d, key)
	}
	if err := b.Verify(d, nil); err != nil {
		return err
	}
	kind, err := b.Kind()
	if err != nil || !kind.IsEncrypted() {
		return err
	}
	if r.cfg.Sums != nil {
		if r.book.Unsigned(d) {
			r.unproven.Add(1)
			return nil
		}
		if err := r.book.Check(d, b); err != nil {
			return fmt.Errorf("%w: %w", swarm.ErrDoubt, err)
		}
		return nil
	}
	proven := false
	if r.cfg.Proven != nil {
		if proven, err = r.cfg.Proven(d, b); err != nil {
			return err
		}
	}
	if !proven {
		r.unproven.Add(1)
	}
	return nil
}

// How often what was fetched is made durable, and how much of it waits.
const (
	commitEvery  = 2 * time.Second
	commitChunks = 256
	lookEvery    = 250 * time.Millisecond
)

// tend makes durable what was fetched, and tells of progress.
func (r *run) tend(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n := r.fresh.Load(); n >= commitChunks || n > 0 && time.Since(last) >= commitEvery {
			r.fresh.Add(-n)
			if err := r.commit(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			last = time.Now()
		}
		r.tell()
	}
}

// commit makes durable what was put.
func (r *run) commit(ctx context.Context) error {
	done := r.parts.Committing()
	err := r.lease.Commit(ctx)
	if err == nil {
		done()
	}
	return err
}

func (r *run) tell() {
	if r.cfg.Progress == nil {
		return
	}
	st := r.swarm.Stats()
	r.mu.Lock()
	p := r.done
	r.mu.Unlock()
	p.Chunks, p.Bytes, p.Waiting = st.Fetched, st.Bytes, st.Waiting
	r.cfg.Progress(p)
}

// prepare fetches manifests and indexes in the order of the plan, and wants
// the chunks that are missing. It runs ahead of publish.
func (r *run) prepare(ctx context.Context) error {
	var batch []*fetch
	for _, g := range r.groups {
		for _, f := range g.fetches {
			if batch = append(batch, f); len(batch) == maxBatch {
				if err := r.prepareBatch(ctx, batch); err != nil {
					return err
				}
				batch = batch[:0]
			}
		}
	}
	return r.prepareBatch(ctx, batch)
}

func (r *run) prepareBatch(ctx context.Context, batch []*fetch) error {
	var ask []*fetch
	var list []wire.Snapshot
	for _, f := range batch {
		if f.group.failed.Load() {
			close(f.prepared)
			continue
		}
		if err := r.ahead.Acquire(ctx, 1); err != nil {
			return nil // the run ends, and whoever waits for us sees that
		}
		f.slot = true
		ask = append(ask, f)
		list = append(list, wire.Snapshot{Namespace: f.group.From, Snapshot: f.snapshot()})
	}
	for len(ask) > 0 {
		n := 0
		err := r.files(ctx, list, func(i int, files []wire.File) error {
			n = i + 1
			return r.prepareOne(ctx, ask[i], files)
		})
		if ctx.Err() != nil {
			return nil
		}
		if ask, list = ask[n:], list[n:]; len(ask) == 0 {
			return nil
		}
		failed := len(ask)
		if refused := (*Refusal)(nil); errors.As(err, &refused) || errors.Is(err, wire.ErrUnreadable) {
			failed = 1 // the others may be well
		}
		for _, f := range ask[:failed] {
			f.err = err
			close(f.prepared)
		}
		ask, list = ask[failed:], list[failed:]
	}
	return nil
}

// files asks the source of the plan, and once more if the connection broke
// before anything of an answer was used.
func (r *run) files(ctx context.Context, list []wire.Snapshot, fn func(int, []wire.File) error) error {
	used := false
	once := func(i int, files []wire.File) error { used = true; return fn(i, files) }
	err := r.cfg.Sources[r.first].Files(ctx, list, once)
	var refused *wire.Error
	var ofOne *Refusal
	if err != nil && !used && !errors.As(err, &refused) && !errors.As(err, &ofOne) && !errors.Is(err, wire.ErrUnreadable) && ctx.Err() == nil {
		err = r.cfg.Sources[r.first].Files(ctx, list, once)
	}
	return err
}

// prepareOne takes the files of a snapshot. Its errors are the snapshot's, but
// for the end of the run.
func (r *run) prepareOne(ctx context.Context, f *fetch, files []wire.File) error {
	f.pending.Store(1)
	defer f.arrived(nil)
	defer close(f.prepared)
	if len(files) == 0 {
		f.gone = true
		return nil
	}
	if f.err = f.read(files); f.err != nil {
		return nil
	}
	f.err = unwanted(f.manifest, r.job.Options)
	if f.err != nil {
		return nil
	}
	for _, file := range files {
		r.report.FilesSize += int64(len(file.Data)) // only here until the run has ended
	}
	if f.key, f.err = r.keyOf(f); f.err != nil {
		return nil
	}
	if f.key != nil {
		f.err = r.wantOpen(ctx, f)
		return ctx.Err()
	}
	signed, err := r.signed(ctx, f)
	if err != nil {
		f.err = err
		return ctx.Err()
	}
	for name, x := range f.indexes {
		if f.err = r.want(ctx, f, x, signed[name]); f.err != nil {
			return ctx.Err()
		}
	}
	return nil
}

// signed returns what the origin of a snapshot says of the chunks of its indexes:
// by what came along, or as it says itself when it is asked. Of a snapshot whose
// origin there is no more, nothing is said.
func (r *run) signed(ctx context.Context, f *fetch) (map[string]*sums, error) {
	all, err := r.cfg.Sums.All(f.manifest, f.indexes, f.vouched)
	if err == nil || r.cfg.Origin == nil {
		return said(all), err
	}
	files, known, oerr := r.cfg.Origin(ctx, f.manifest)
	f.drop(vouch.Is)
	if !known && oerr == nil {
		r.cfg.Log.Info("no node is known that could have signed what the chunks of a snapshot are", "snapshot", f.snapshot())
		return r.unsigned(f), nil
	}
	if oerr != nil {
		return nil, fmt.Errorf("%w: %w", err, oerr)
	}
	var blobs []chunks.Blob
	for _, v := range files {
		blobs = append(blobs, v.Blob)
		f.files = append(f.files, wire.File{Name: v.Name, Data: v.Blob})
	}
	all, err = r.cfg.Sums.All(f.manifest, f.indexes, blobs)
	return said(all), err
}

// sums are what is said of the chunks of an index.
type sums struct {
	signed map[chunks.Digest]vouch.Sum
	none   bool // nobody could have signed
}

func said(all map[string]map[chunks.Digest]vouch.Sum) map[string]*sums {
	out := map[string]*sums{}
	for name, s := range all {
		out[name] = &sums{signed: s}
	}
	return out
}

func (r *run) unsigned(f *fetch) map[string]*sums {
	out := map[string]*sums{}
	for name := range f.indexes {
		if file, _ := f.manifest.File(name); vouch.Needs(file) {
			out[name] = &sums{none: true}
		}
	}
	return out
}

// drop leaves files out that were sent.
func (f *fetch) drop(which func(name string) bool) {
	f.files = slices.DeleteFunc(f.files, func(file wire.File) bool { return which(file.Name) })
	f.vouched = nil
}

// read checks the files of a snapshot against its manifest.
func (f *fetch) read(files []wire.File) error {
	if files[0].Name != manifest.Name {
		return fmt.Errorf("the source sent %s before the manifest", files[0].Name)
	}
	m, err := manifest.ParseBlob(files[0].Data)
	if err != nil {
		return err
	}
	if m.Snapshot() != f.snapshot() {
		return fmt.Errorf("the source sent the manifest of %s", m.Snapshot())
	}
	have := map[string]bool{}
	f.manifest, f.indexes = m, map[string]chunks.Index{}
	for _, file := range files[1:] {
		want, listed := m.File(file.Name)
		if !listed && file.Name != manifest.LogName && !vouch.Is(file.Name) {
			continue // nobody vouches for it
		}
		if err := f.file(file, want, listed); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		have[file.Name] = true
	}
	for _, file := range m.Files {
		if !have[file.Name] {
			return fmt.Errorf("the source did not send %s", file.Name)
		}
	}
	return nil
}

func (f *fetch) file(file wire.File, want manifest.File, listed bool) error {
	if roots.IsIndex(file.Name) {
		x, err := chunks.ParseIndex(file.Data)
		if err != nil {
			return err
		}
		if x.Csum() != want.Csum || uint64(x.Size()) != want.Size {
			return errors.New("it is not what the manifest says")
		}
		f.indexes[file.Name] = x
	} else if err := checkBlob(file.Data, want, listed); err != nil {
		return err
	} else if vouch.Is(file.Name) {
		f.vouched = append(f.vouched, file.Data)
	}
	f.files = append(f.files, file)
	return nil
}

// want tells the swarm of the chunks of an index that are missing here.
func (r *run) want(ctx context.Context, f *fetch, x chunks.Index, sums *sums) error {
	seen := make(map[chunks.Digest]bool)
	var block []swarm.Chunk
	for i, d := range x.All() {
		if seen[d] {
			continue
		}
		seen[d] = true
		start, end := x.Range(i)
		block = append(block, swarm.Chunk{Digest: d, Size: int(end - start)})
		if len(block) == maxBlock {
			if err := r.wantBlock(ctx, f, block, sums); err != nil {
				return err
			}
			block = block[:0]
		}
	}
	return r.wantBlock(ctx, f, block, sums)
}

// maxBlock is how many chunks are looked up, and asked of all sources, at once.
const maxBlock = 8192

func (r *run) wantBlock(ctx context.Context, f *fetch, block []swarm.Chunk, sums *sums) error {
	ds := make([]chunks.Digest, len(block))
	sizes := make(map[chunks.Digest]int, len(block))
	for i, c := range block {
		ds[i], sizes[c.Digest] = c.Digest, c.Size
	}
	if len(r.cfg.Keys) > 0 {
		r.opened.asItIs(ds)
	}
	missing, err := r.lease.Missing(ctx, ds)
	if err != nil {
		return err
	}
	r.parts.Missing(ds, missing)
	return r.wantMissing(ctx, f, missing, sizes, sums)
}

// wantMissing tells the swarm of chunks that are missing here.
func (r *run) wantMissing(ctx context.Context, f *fetch, missing []chunks.Digest, sizes map[chunks.Digest]int, sums *sums) error {
	if len(missing) == 0 {
		return nil
	}
	masks := holders(ctx, r.cfg.Sources, r.first, missing, r.cfg.Log)
	if err := r.wanted.Acquire(ctx, int64(len(missing))); err != nil {
		return err
	}
	if sums != nil {
		r.book.Add(sums.signed, missing)
		if sums.none {
			r.book.Let(missing)
		}
	}
	want := make([]swarm.Chunk, len(missing))
	for i, d := range missing {
		want[i] = swarm.Chunk{Digest: d, Size: sizes[d], Holders: masks[i], Done: func(err error) {
			r.wanted.Release(1)
			r.book.Remove(d)
			f.arrived(err)
		}}
	}
	f.pending.Add(int64(len(want)))
	r.swarm.Want(want)
	return nil
}

// holders asks all sources which of ds they have; the one at the place first,
// which has the snapshot, is taken to have all of them.
func holders(ctx context.Context, sources []Source, first int, ds []chunks.Digest, log *slog.Logger) []uint64 {
	masks := make([]uint64, len(ds))
	if first >= 0 {
		for i := range masks {
			masks[i] = 1 << first
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n, src := range sources {
		if n == first {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, haveTimeout)
			defer cancel()
			have, err := src.Have(ctx, ds)
			if err != nil {
				log.Debug("source does not say what it has", "source", src.Name(), "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, yes := range have {
				if yes {
					masks[i] |= 1 << n
				}
			}
		})
	}
	wg.Wait()
	return masks
}

// haveTimeout is how long a source may take to say what it has: the others do
// not wait for one that is not there.
const haveTimeout = 10 * time.Second

// arrived counts a chunk, or notes that it will not come.
func (f *fetch) arrived(err error) {
	if err != nil {
		f.lost.CompareAndSwap(nil, &err)
	}
	if f.pending.Add(-1) == 0 {
		close(f.whole)
	}
}

// unwanted looks at the manifest itself: the listing may be older.
func unwanted(m *manifest.Manifest, opt plan.Options) error {
	if v, ok := m.VerifyState(); opt.VerifiedOnly && (!ok || !v.OK()) {
		return errors.New("it is not verified at the source any more")
	}
	if opt.EncryptedOnly {
		for _, f := range m.Files {
			if f.CryptMode != manifest.Encrypt {
				return fmt.Errorf("%s is not encrypted", f.Name)
			}
		}
	}
	return nil
}

var _ wire.Store = (*catalog.Datastore)(nil)
