package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

// minPunch is the shortest run of dead entries that is worth a hole: punching
// costs about as much as writing this many bytes (measured on ext4).
const minPunch = 64 << 10

// Measure returns how much of every pack is taken by the entries in set, and
// by the others. It reads the index once, from front to back.
func (s *Store) Measure(set *Set) (map[uint32]Usage, error) {
	all, failed := s.idx.All(context.Background())
	usage := state.Measure(s.packs.All(), all, set)
	if err := failed(); err != nil {
		return nil, fmt.Errorf("measure %s: %w", s, err)
	}
	return usage, nil
}

// Reclaim gives back the space of the condemned entries of a pack, by the
// method m; a pack that is still being written takes nothing more then. It begins by
// making the condemnation durable. Live chunks that must move are moved inside
// switchover, which the caller runs so that nobody looks up or pins a chunk
// meanwhile. Reclaim may be repeated, after a crash as well: what is done
// stays done.
func (s *Store) Reclaim(ctx context.Context, number uint32, m Method, switchover func(moves []Move, apply func())) (Reclaimed, error) {
	p := s.packs.At(number)
	switch {
	case p == nil || p.Missing.Load() || m == Keep:
		return Reclaimed{}, nil
	case !p.Sealed.Load() && !p.Retired.Load():
		if err := s.finish(p); err != nil {
			return Reclaimed{}, fmt.Errorf("reclaim %s: %w", p.Name(), err)
		}
	}
	dead := p.Dead() // what is condemned from here on is not durable yet
	if err := s.syncJournal(); err != nil {
		return Reclaimed{}, err
	}
	rows, err := s.rows(ctx, p)
	if err != nil {
		return Reclaimed{}, fmt.Errorf("reclaim %s: %w", p.Name(), err)
	}
	slices.SortFunc(rows, func(a, b format.Row) int { return cmp.Compare(a.Off, b.Off) })
	j := &reclaim{s: s, p: p, rows: rows, dead: dead, switchover: switchover}
	var done Reclaimed
	switch m {
	case Drop:
		done, err = j.drop()
	case Punch:
		done, err = j.punch(ctx)
	case Reflink, Copy:
		release := s.holdCoverage()
		defer release()
		if m == Reflink {
			done, err = j.reflink(ctx)
		} else {
			done, err = j.copy(ctx)
		}
	default:
		err = fmt.Errorf("%s is not a way to reclaim", m)
	}
	if err != nil {
		return done, fmt.Errorf("reclaim %s: %w", p.Name(), chunks.NoSpace(err))
	}
	return done, nil
}

// A reclaim is one pack being relieved of its dead entries.
type reclaim struct {
	s          *Store
	p          *state.Pack
	rows       []format.Row  // by offset
	dead       *state.Bitmap // as of the beginning, durable
	switchover func([]Move, func())
}

// newlyGone counts the dead entries whose space was not given back before.
func (j *reclaim) newlyGone() uint32 {
	return j.s.packs.Waiting(j.p, j.dead, func(yield func(uint32) bool) {
		for _, r := range j.rows {
			if !yield(r.Ordinal) {
				return
			}
		}
	})
}

// live returns the entries that are not dead.
func (j *reclaim) live() []format.Row {
	return slices.DeleteFunc(slices.Clone(j.rows), func(r format.Row) bool { return j.dead.Has(r.Ordinal) })
}

// drop removes a pack in which nothing lives. A second copy of a chunk that a
// lease has pinned is not in the index, but lives: then the pack stays.
func (j *reclaim) drop() (Reclaimed, error) {
	if live := j.live(); len(live) > 0 {
		j.s.log.Debug("pack is not dropped yet", "pack", j.p.Name(), "live", len(live))
		return Reclaimed{}, nil
	}
	return j.remove()
}

// remove forgets the pack, durably, and then removes its file.
func (j *reclaim) remove() (Reclaimed, error) {
	s, p := j.s, j.p
	freed := disk.Allocated(s.fs, s.path(p))
	done := Reclaimed{Entries: j.newlyGone()}
	s.packs.DropPack(p)
	for _, r := range j.rows {
		s.idx.Delete(r.Digest, writer.Loc(p.Number, r))
	}
	s.handles.Drop(uint64(p.Number))
	if err := s.syncJournal(); err != nil {
		return done, err
	}
	if err := s.fs.Remove(s.path(p)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return done, err
	}
	done.FreedBytes = freed
	s.room.Look()
	return done, nil
}

// punch turns runs of dead entries into holes. Runs that are too short stay
// until their neighbours die.
func (j *reclaim) punch(ctx context.Context) (Reclaimed, error) {
	s, p := j.s, j.p
	f, err := s.fs.OpenFile(s.path(p), os.O_RDWR, 0)
	if err != nil {
		return Reclaimed{}, err
	}
	defer f.Close()
	puncher, ok := f.(disk.Puncher)
	if !ok {
		return Reclaimed{}, errors.New("the file system cannot punch holes")
	}
	before := disk.Allocated(s.fs, s.path(p))
	for _, run := range format.DeadRuns(j.rows, minPunch, j.dead.Has) {
		if err := ctx.Err(); err != nil {
			return Reclaimed{}, err
		}
		if err := puncher.Punch(run.Src, run.N); err != nil {
			return Reclaimed{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return Reclaimed{}, err
	}
	done := Reclaimed{Entries: j.newlyGone()}
	s.packs.Reclaimed(p, j.dead)
	for _, r := range j.rows {
		if j.dead.Has(r.Ordinal) {
			s.idx.Delete(r.Digest, writer.Loc(p.Number, r))
		}
	}
	s.handles.Drop(uint64(p.Number))
	done.FreedBytes = max(0, before-disk.Allocated(s.fs, s.path(p)))
	s.room.Look()
	return done, s.syncJournal()
}

// counts reports whether r is the entry of its chunk, and not one that was
// replaced. A chunk that the index has lost gets its place back.
func (j *reclaim) counts(r format.Row) bool {
	here := writer.Loc(j.p.Number, r)
	l, inserted := j.s.idx.InsertIfAbsent(r.Digest, here)
	return inserted || l == here
}

// copy appends the live chunks to open packs and drops this one.
func (j *reclaim) copy(ctx context.Context) (Reclaimed, error) {
	s, p := j.s, j.p
	var moves []Move
	var copied int64
	places := map[Ref]format.Row{}
	failures := s.failures.Load()
	for _, r := range j.live() {
		if err := ctx.Err(); err != nil {
			return Reclaimed{}, err
		}
		here := writer.Loc(p.Number, r)
		if !j.counts(r) {
			continue
		}
		if p.Bad().Has(r.Ordinal) {
			s.log.Warn("pack stays as it is: a chunk in it is damaged, and a snapshot names it", "pack", p.Name(), "chunk", r.Digest.String())
			return Reclaimed{}, nil
		}
		blob, err := s.readEntry(p, r.Digest, here, nil)
		if err != nil {
			return Reclaimed{}, fmt.Errorf("chunk %s in it cannot be moved: %w", r.Digest.Short(), err)
		}
		moved, to, err := s.moveIn(r, blob)
		if err != nil {
			return Reclaimed{}, err
		}
		ref := Ref{Pack: to.Number, Entry: moved.Ordinal}
		moves, places[ref] = append(moves, Move{Digest: r.Digest, Old: Ref{Pack: p.Number, Entry: r.Ordinal}, New: ref}), moved
		copied += int64(len(blob))
	}
	if err := s.commitAll(); err != nil {
		return Reclaimed{}, err
	}
	if s.failures.Load() != failures { // whoever met it first was told
		return Reclaimed{}, errors.New("a pack failed that may have had its chunks; they stay where they are")
	}
	return j.change(moves, places, copied)
}

// moveIn appends a chunk that the index already has. The entry is not in the
// index until the switchover.
func (s *Store) moveIn(r format.Row, blob []byte) (format.Row, *state.Pack, error) {
	if err := s.room.Take(int64(len(blob)) + format.EntrySize + format.Align); err != nil {
		return r, nil, err
	}
	l := &s.lanes[len(s.lanes)-1]
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.placeIn(l, r, blob, nil, true)
}

// change lets the index point to the new places, all at once, and drops the
// old pack. Before this the old pack counts, after a crash too.
func (j *reclaim) change(moves []Move, places map[Ref]format.Row, copied int64) (Reclaimed, error) {
	s, p := j.s, j.p
	j.switchover(moves, func() {
		byOrdinal := map[uint32]format.Row{}
		for _, r := range j.rows {
			byOrdinal[r.Ordinal] = r
		}
		for _, m := range moves {
			s.idx.Replace(m.Digest, writer.Loc(p.Number, byOrdinal[m.Old.Entry]), writer.Loc(m.New.Pack, places[m.New]))
		}
		s.generation.Add(1)
	})
	done, err := j.remove()
	done.CopiedBytes = copied
	return done, err
}

// reflink makes a dense pack that shares the blocks of the live entries.
func (j *reclaim) reflink(ctx context.Context) (Reclaimed, error) {
	s, p := j.s, j.p
	live := slices.DeleteFunc(j.live(), func(r format.Row) bool { return !j.counts(r) })
	src, err := s.fs.OpenFile(s.path(p), os.O_RDONLY, 0)
	if err != nil {
		return Reclaimed{}, err
	}
	defer src.Close()
	h, err := format.ReadHeader(src, p.ID, p.Epoch)
	if damaged := (*format.DamagedHeader)(nil); errors.As(err, &damaged) {
		return j.copy(ctx) // it does not say where its entries belong
	}
	if err != nil {
		return Reclaimed{}, err
	}
	spans, ok := format.LiveSpans(live, h)
	if !ok {
		return j.copy(ctx)
	}
	q, rows, err := j.derive(src, h, live, spans)
	if err != nil {
		return Reclaimed{}, err
	}
	var moves []Move
	places := map[Ref]format.Row{}
	for i, r := range rows {
		ref := Ref{Pack: q.Number, Entry: r.Ordinal}
		moves, places[ref] = append(moves, Move{Digest: r.Digest, Old: Ref{Pack: p.Number, Entry: live[i].Ordinal}, New: ref}), r
	}
	return j.change(moves, places, 0)
}

// derive writes the dense pack and makes it durable. rows come back in the
// order of live.
func (j *reclaim) derive(src disk.File, old *format.Header, live []format.Row, spans []format.Span) (*state.Pack, []format.Row, error) {
	s, p := j.s, j.p
	h := &format.Header{ID: format.NewID(), Store: s.id.ID, Created: old.Created, Epoch: s.packs.Epoch(), Derived: true, Origin: old.ID}
	if old.Derived {
		h.Origin = old.Origin
	}
	for _, sp := range spans {
		h.Segments = append(h.Segments, format.Segment{Src: sp.Origin, Dst: sp.To, N: sp.N})
	}
	q := &state.Pack{ID: h.ID, Epoch: h.Epoch}
	s.packs.Add(q, false)
	h.Number = q.Number
	rows, end, err := s.writeDerived(q, h, src, live, spans)
	if err != nil {
		s.packs.Drop(q.Number)
		return nil, nil, err
	}
	s.packs.SetEntries(q, rows)
	if bad := p.Bad(); bad != nil {
		s.packs.Quarantine(q, *bad) // its entries have the same ordinals
	}
	q.Size.Store(end)
	q.Sealed.Store(true)
	return q, rows, nil
}

func (s *Store) writeDerived(q *state.Pack, h *format.Header, src disk.File, live []format.Row, spans []format.Span) (rows []format.Row, size int64, err error) {
	f, err := s.createFile(q, h)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, s.fs.Remove(s.path(q)))
		}
	}()
	cloner, ok := f.(disk.Cloner)
	if !ok {
		return nil, 0, errors.New("the file system cannot share blocks")
	}
	end, next := int64(format.HeaderSize), 0
	for _, sp := range spans {
		if err := cloner.CloneRange(sp.To, src, sp.From, sp.N); err != nil {
			return nil, 0, err
		}
		end = sp.To + sp.N
		for ; next < len(live) && live[next].Off < sp.From+sp.N; next++ {
			r := live[next]
			r.Off += sp.To - sp.From
			rows = append(rows, r)
		}
	}
	if size, err = format.WriteTail(f, q.ID, slices.Clone(rows), end); err != nil {
		return nil, 0, err
	}
	return rows, size, s.fs.SyncDir(s.shard(q.ID))
}
