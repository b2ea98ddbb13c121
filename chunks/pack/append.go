package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

// A lane is a place to append: one open pack. Several lanes let several
// callers append at the same time; one caller stays in the first, so that a
// backup lies in the order in which it will be read.
type lane struct {
	mu sync.Mutex

	w *writer.Writer // nil until something is appended
}

// Lookup returns where d lies. It knows nothing of condemned and quarantined
// chunks: whoever asks must store them again.
func (s *Store) Lookup(d chunks.Digest) (Ref, bool) {
	l, p := s.find(d)
	if p == nil || !p.Live(l.Entry) {
		return Ref{}, false
	}
	return Ref{Pack: l.Pack, Entry: l.Entry}, true
}

// LookupKind is Lookup that says how the chunk is encoded; see format.ReadKind.
func (s *Store) LookupKind(d chunks.Digest) (ref Ref, kind chunks.Kind, ok bool, err error) {
	l, p := s.find(d)
	if p == nil || !p.Live(l.Entry) {
		return Ref{}, 0, false, nil
	}
	kind, err = format.ReadKind(l.Off, l.Len, d, func(b []byte, off int64) error { return s.readPack(p, b, off) })
	return Ref{Pack: l.Pack, Entry: l.Entry}, kind, true, err
}

// Known reports whether d is held.
func (s *Store) Known(d chunks.Digest) bool {
	_, ok := s.Lookup(d)
	return ok
}

// Locate returns where d lies, quarantined or not: a chunk that could not be
// read once is not garbage as long as a snapshot names it.
func (s *Store) Locate(d chunks.Digest) (Ref, bool) {
	l, p := s.find(d)
	if p == nil || !p.Held(l.Entry) {
		return Ref{}, false
	}
	return Ref{Pack: l.Pack, Entry: l.Entry}, true
}

// LocateMany calls fn for each of ds, in order, with what Locate says of it. It
// is several times faster than as many calls.
func (s *Store) LocateMany(ds []chunks.Digest, fn func(i int, r Ref, held bool)) {
	s.idx.LookupMany(ds, func(i int, l index.Loc, known bool) {
		p := s.packs.At(l.Pack)
		if known && p == nil {
			l, p = s.find(ds[i])
		}
		fn(i, Ref{Pack: l.Pack, Entry: l.Entry}, known && p != nil && p.Held(l.Entry))
	})
}

// Missing returns those of want that are not held, in the order of want.
func (s *Store) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	var missing []chunks.Digest
	for i, d := range want {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, ok := s.Lookup(d); !ok {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// Put stores b under d unless d is held already. See [chunks.Writer]; a chunk
// put so is pinned by nobody, and the next garbage collection takes it unless
// a snapshot names it by then.
func (s *Store) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (known bool, err error) {
	_, known, err = s.Append(ctx, d, b, nil)
	return known, err
}

// Append stores b under d unless a live chunk of that name is there, and says
// where it lies. pin, if given, is called with the place of a new chunk before
// anybody else can see it; a chunk that was there is not pinned. Append does
// not wait for the disk but where buffers are full.
func (s *Store) Append(ctx context.Context, d chunks.Digest, b chunks.Blob, pin func(Ref)) (ref Ref, known bool, err error) {
	if err := b.Check(); err != nil {
		return Ref{}, false, s.problem("write", d, err)
	}
	for {
		if s.closed.Load() {
			return Ref{}, false, errClosed
		}
		if err := s.boundIndex(ctx); err != nil {
			return Ref{}, false, err
		}
		if ref, ok := s.Lookup(d); ok {
			return ref, true, nil
		}
		won, err := s.claims.Take(ctx, d)
		if err != nil {
			return Ref{}, false, err
		}
		if won {
			break
		}
	}
	defer s.claims.Release(d)
	if ref, ok := s.Lookup(d); ok { // stored between the look and the claim
		return ref, true, nil
	}
	r := format.Row{Digest: d, Content: format.ContentSum(b), Sum: xxhash.Sum64(b), Stored: uint32(len(b))}
	if n, ok := b.PlainLen(); ok {
		r.Plain = uint32(n)
	}
	replaced := s.refersTo(d)
	r, p, err := s.place(r, b, pin)
	if err != nil {
		return Ref{}, false, s.problem("write", d, err)
	}
	if replaced {
		s.generation.Add(1) // healed: snapshots name this chunk by its old place
	}
	return Ref{Pack: p.Number, Entry: r.Ordinal}, false, nil
}

// refersTo reports whether d is held and quarantined.
func (s *Store) refersTo(d chunks.Digest) bool {
	_, located := s.Locate(d)
	return located
}

func (s *Store) problem(op string, d chunks.Digest, err error) error {
	return &chunks.Error{Op: op, Digest: d, Place: s.String(), Err: err}
}

// place appends to the first lane that is free, or waits for one.
func (s *Store) place(r format.Row, b chunks.Blob, pin func(Ref)) (format.Row, *state.Pack, error) {
	if err := s.room.Take(int64(len(b)) + format.EntrySize + format.Align); err != nil {
		return r, nil, err
	}
	l := s.takeLane(r.Digest)
	defer l.mu.Unlock()
	return s.placeIn(l, r, b, pin, false)
}

// takeLane locks a lane.
func (s *Store) takeLane(d chunks.Digest) *lane {
	for i := range s.lanes {
		if l := &s.lanes[i]; l.mu.TryLock() {
			return l
		}
	}
	l := &s.lanes[int(d[0])%len(s.lanes)]
	l.mu.Lock()
	return l
}

// placeIn appends in a lane whose lock is held. A chunk that moves stays out of
// the index for now.
func (s *Store) placeIn(l *lane, r format.Row, b chunks.Blob, pin func(Ref), moves bool) (format.Row, *state.Pack, error) {
	if l.w != nil {
		fits, err := l.w.Fits(len(b), s.id.PackBytes)
		switch {
		case err != nil: // told to those whose chunks it took along
			s.retire(l.w)
			l.w = nil
		case !fits:
			s.startSeal(l.w)
			l.w = nil
		}
	}
	if l.w == nil {
		w, err := s.nextWriter()
		if err != nil {
			return r, nil, err
		}
		l.w = w
	}
	w := l.w
	r, err := w.Append(r, s.packs.Epoch(), b, pin, moves)
	if err != nil {
		l.w = nil
		s.retire(w)
		return r, nil, err
	}
	return r, w.Pack(), nil
}

// nextWriter goes on with a pack of an earlier process, or begins a new one.
func (s *Store) nextWriter() (*writer.Writer, error) {
	for {
		s.openMu.Lock()
		var p *state.Pack
		if n := len(s.resume); n > 0 {
			p, s.resume = s.resume[n-1], s.resume[:n-1]
		}
		s.openMu.Unlock()
		if p == nil {
			return s.createPack()
		}
		w, err := s.reopen(p)
		if err == nil {
			return w, nil
		}
		p.Retired.Store(true)
		s.log.Warn("an open pack cannot be continued", "pack", p.Name(), "err", err)
	}
}

// createPack begins a pack. Its header becomes durable with its first entries.
func (s *Store) createPack() (*writer.Writer, error) {
	p := &state.Pack{ID: format.NewID(), Epoch: s.packs.Epoch()}
	s.packs.Add(p, false)
	h := format.Header{ID: p.ID, Store: s.id.ID, Created: time.Now(), Epoch: p.Epoch, Number: p.Number}
	f, err := s.createFile(p, &h)
	if err != nil {
		s.packs.Drop(p.Number)
		return nil, err
	}
	return s.addWriter(s.env.New(p, f)), nil
}

// createFile makes the file of a new pack and writes its header.
func (s *Store) createFile(p *state.Pack, h *format.Header) (disk.File, error) {
	create := func() (disk.File, error) {
		return s.fs.OpenFile(s.path(p), os.O_RDWR|os.O_CREATE|os.O_EXCL|s.probe.DirectFlag(), 0o600)
	}
	f, err := create()
	if errors.Is(err, fs.ErrNotExist) { // a copy may lack empty directories
		if err = disk.MkdirAll(s.fs, s.shard(p.ID), 0o700); err == nil {
			f, err = create()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create pack: %w", chunks.NoSpace(err))
	}
	if _, err := f.WriteAt(h.Encode(), 0); err != nil {
		err = errors.Join(fmt.Errorf("create pack: %w", chunks.NoSpace(err)), f.Close(), s.fs.Remove(s.path(p)))
		return nil, err
	}
	return f, nil
}

// reopen continues a pack that a clean stop left open.
func (s *Store) reopen(p *state.Pack) (*writer.Writer, error) {
	rows, err := s.rows(context.Background(), p)
	if err != nil {
		return nil, err
	}
	if n := p.Entries.Load(); !p.Complete(rows, n) {
		return nil, fmt.Errorf("%d of its %d entries are whole", len(rows), n)
	}
	f, err := s.fs.OpenFile(s.path(p), os.O_RDWR|s.probe.DirectFlag(), 0)
	if err != nil {
		return nil, err
	}
	return s.addWriter(s.env.Continue(p, f, rows)), nil
}

func (s *Store) addWriter(w *writer.Writer) *writer.Writer {
	s.openMu.Lock()
	s.open[w.Pack()] = w
	s.openMu.Unlock()
	return w
}

// startSeal completes a full pack beside the work; at most one for each lane
// is under way, so that a slow disk slows those who append.
func (s *Store) startSeal(w *writer.Writer) {
	s.sealSlot <- struct{}{}
	s.sealing.Add(1)
	go func() {
		defer s.sealing.Done()
		defer func() { <-s.sealSlot }()
		if err := w.Seal(); err != nil {
			s.log.Warn("pack could not be sealed now", "pack", w.Pack().Name(), "err", err)
		}
		s.retire(w)
	}()
}

// finish seals a pack that is being written, or waits to be gone on with.
func (s *Store) finish(p *state.Pack) (err error) {
	s.openMu.Lock()
	i := slices.Index(s.resume, p)
	if i >= 0 {
		s.resume = slices.Delete(s.resume, i, i+1)
	}
	s.openMu.Unlock()
	w := s.writerOf(p) // nil: sealed meanwhile
	if i >= 0 {
		if w, err = s.reopen(p); err != nil {
			p.Retired.Store(true)
			return err
		}
	}
	for i := range s.lanes {
		l := &s.lanes[i]
		l.mu.Lock()
		if l.w == w {
			l.w = nil
		}
		l.mu.Unlock()
	}
	if w != nil {
		err = w.Seal()
		s.retire(w)
	}
	if p.Sealed.Load() { // also where it was full, and who filled it was faster
		return nil
	}
	return err
}

// retire lets go of a writer: its pack is sealed, or failed.
func (s *Store) retire(w *writer.Writer) {
	s.openMu.Lock()
	known := s.open[w.Pack()] == w
	delete(s.open, w.Pack())
	s.openMu.Unlock()
	if !known {
		return
	}
	p := w.Pack()
	p.Retired.Store(!p.Sealed.Load())
	if err := w.Close(); err != nil {
		s.log.Warn("close pack", "pack", p.Name(), "err", err)
	}
	if p.Retired.Load() && w.DurableEntries() == 0 { // nothing in it was ever promised
		s.packs.Drop(p.Number)
		s.handles.Drop(uint64(p.Number))
		if err := s.fs.Remove(s.path(p)); err != nil {
			s.log.Warn("failed pack stays until the next start", "pack", p.Name(), "err", err)
		}
	}
}

// boundIndex sees to it that the newest part of the index goes to disk, and
// waits where it has outrun that: else its memory has no limit. After a flush
// that failed only Commit tries again, and nobody waits.
func (s *Store) boundIndex(ctx context.Context) error {
	if !s.idx.NeedsFlush() || s.unflushed.Load() {
		return nil
	}
	s.maybeFlush()
	if !s.idx.Full() {
		return nil
	}
	select {
	case s.flushing <- struct{}{}:
		<-s.flushing
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maybeFlush writes the newest part of the index to disk, beside the work,
// once it has grown large.
func (s *Store) maybeFlush() {
	if !s.idx.NeedsFlush() {
		return
	}
	select {
	case s.flushing <- struct{}{}:
	default:
		return
	}
	s.flush.Add(1)
	go func() {
		defer s.flush.Done()
		defer func() { <-s.flushing }()
		err := s.flushIndexLocked(context.Background(), numberSlack)
		if s.unflushed.Store(err != nil); err != nil {
			s.log.Warn("index could not be written; it grows in memory until it can", "store", s.dir, "err", err)
		}
		if err := s.packs.Trim(); err != nil {
			s.log.Warn("state journal could not be shortened", "store", s.dir, "err", err)
		}
	}()
}

// flushIndexLocked moves the newest part of the index into files. The table is
// noted before, so nothing counts as covered that is not. The files may name
// packs begun after that, which a crash can take away: numbers up to slack
// beyond the last are never given out again.
//
// The journal comes first: a pack that the table calls read is not read again,
// and what reading it has told of it (entries that are not whole) is there.
func (s *Store) flushIndexLocked(ctx context.Context, slack uint32) error {
	if err := s.syncJournal(); err != nil {
		return err
	}
	if err := s.idx.Flush(ctx, s.packs.Encode(s.coverage(), s.ident, slack)); err != nil {
		return err
	}
	s.packs.Forget()
	return nil
}

// numberSlack is more packs than can be begun while an index is frozen.
const numberSlack = 1024

// holdCoverage keeps the coverage as it is until release is called.
func (s *Store) holdCoverage() (release func()) { return s.held.Hold(s.coverage()) }

// While entries move, what they were before counts: an entry that has no place
// in the index yet is not covered, whatever becomes of its pack meanwhile.
func (s *Store) coverage() state.Coverage {
	if held := s.held.Now(); held != nil {
		return *held
	}
	c := state.Coverage{Next: s.packs.Reserve(0), Open: map[uint32]uint32{}}
	for _, p := range s.packs.All() {
		if p.Unread {
			c.Open[p.Number] = 0
			continue
		}
		if p.Sealed.Load() || p.Retired.Load() {
			continue
		}
		c.Open[p.Number] = p.Covered
		if w := s.writerOf(p); w != nil {
			c.Open[p.Number] = w.Entries()
		}
	}
	return c
}

// Entries returns the chunks that live in those packs that keep accepts, in
// the order in which they lie there, and that a crash would not take away. Who
// moves chunks elsewhere begins with it.
func (s *Store) Entries(ctx context.Context, keep func(Info) bool) ([]Entry, error) {
	all, failed := s.idx.All(ctx)
	return s.packs.Entries(all, state.Counts(s.durable(), keep)), failed()
}
