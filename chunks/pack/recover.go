package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
	"github.com/holdfast-mesh/holdfast/chunks/pack/writer"
)

// list finds the pack files of the store.
func (s *Store) list() ([]state.File, error) {
	files, strangers, err := state.List(s.fs, path.Join(s.dir, identity.PacksDir))
	s.health.Note(func(h *Health) { h.ForeignFiles = append(h.ForeignFiles, strangers...) })
	return files, err
}

// reserveNumbers makes sure that a pack whose header is damaged, and which
// gets a new number for that, gets none that another pack has. It fails if
// all packs belong to another store: then it is the identity that is wrong.
func (s *Store) reserveNumbers(files []state.File) error {
	ours, other := false, format.ID{}
	for _, f := range files {
		h, err := f.Header(s.fs)
		switch {
		case err != nil: // told when the pack is loaded
		case h.Store != s.id.ID:
			other = h.Store
		default:
			ours = true
			s.packs.Reserve(h.Number + 1)
		}
	}
	if !ours && other != (format.ID{}) {
		return s.wrongIdentity(other)
	}
	return nil
}

// checkOwner compares the identity with the header of a pack that is known to
// be ours.
func (s *Store) checkOwner() error {
	for _, p := range s.packs.All() {
		h, err := state.File{Name: s.path(p), Epoch: p.Epoch, ID: p.ID}.Header(s.fs)
		if err == nil && h.Store != s.id.ID {
			return s.wrongIdentity(h.Store)
		}
		if err == nil {
			return nil
		}
	}
	return nil
}

func (s *Store) wrongIdentity(packs format.ID) error {
	return &identity.OpenError{
		Dir:  s.dir,
		Err:  fmt.Errorf("%s is damaged or of another store: it says %s, the packs say %s", identity.File, s.id.ID, packs),
		Cure: "restore the file from another copy of this store, or set its id to what the packs say",
	}
}

// reconcile brings index and packs together after a crash, or where the store
// was copied: packs that the index does not know whole are read, and what it
// lacks is put in.
func (s *Store) reconcile(ctx context.Context, copied bool) error {
	files, err := s.list()
	if err != nil {
		return err
	}
	files = s.packs.Undropped(files)
	known := s.forgetLost(files)
	if n := len(s.health.MissingPacks); n > 0 && copied && !s.cfg.AcceptLoss {
		return &identity.OpenError{Dir: s.dir, Err: fmt.Errorf("%w: %d of %d packs are not there, the first is %s", identity.ErrHalfCopied, n, len(files)+n, s.health.MissingPacks[0]),
			Cure: "finish the copy; or open it with what there is (--accept-loss), and heal or back up again what is missing"}
	}
	files = slices.DeleteFunc(files, func(f state.File) bool {
		p := known[f.Name]
		return p != nil && p.Sealed.Load() && p.Covered == p.Entries.Load() && p.Size.Load() == f.Size
	})
	if err := s.reserveNumbers(files); err != nil {
		return err
	}
	// All are loaded before any counts: only then is it known which of the
	// places in the index still hold.
	loaded := map[*state.Pack][]format.Row{}
	for _, f := range files {
		p, rows, err := s.loadPack(ctx, f, known[f.Name])
		if err != nil {
			return err
		}
		if p != nil {
			loaded[p] = rows
		}
	}
	for p, rows := range loaded {
		for _, r := range rows {
			s.readmitRow(p, r)
		}
	}
	return s.nameLost(ctx)
}

// forgetLost drops the packs of the table that were dropped or have no file,
// and returns the others by file name.
func (s *Store) forgetLost(files []state.File) map[string]*state.Pack {
	there := map[string]bool{}
	for _, f := range files {
		there[f.Name] = true
	}
	dropped := s.packs.Dropped()
	known := map[string]*state.Pack{}
	for _, p := range s.packs.All() {
		name := s.path(p)
		switch {
		case there[name]:
			p.Missing.Store(false)
			known[name] = p
			continue
		case dropped[p.Number] == p.ID:
			s.packs.Drop(p.Number)
			continue
		}
		s.health.MissingPacks = append(s.health.MissingPacks, name)
		s.lost[p.Number] = loss{p.Dead(), math.MaxInt64}
		durable := p.Missing.Load() || p.Sealed.Load() || s.packs.CommittedAtStart(p.Number) > format.HeaderSize
		if !durable || s.cfg.AcceptLoss { // a pack that never was durable can go in a crash
			s.packs.Drop(p.Number)
			continue
		}
		p.Missing.Store(true) // and every later start says so, until its chunks are healed or their loss accepted
	}
	return known
}

// readmitRow puts one entry into the index unless a live one of its name is
// there.
func (s *Store) readmitRow(p *state.Pack, r format.Row) {
	if p.Dead().Has(r.Ordinal) {
		return
	}
	here := writer.Loc(p.Number, r)
	l, ok := s.idx.Lookup(r.Digest)
	if ok && l == here {
		return
	}
	if old := s.packs.At(l.Pack); ok && old != nil && old.Live(l.Entry) {
		return
	}
	s.idx.Insert(r.Digest, here)
}

// rebuild makes the index anew from the packs alone.
func (s *Store) rebuild(ctx context.Context) error {
	files, err := s.list()
	if err != nil {
		return err
	}
	if s.idx != nil {
		err := s.idx.Close()
		if s.idx = nil; err != nil {
			return err
		}
	}
	files = s.packs.Undropped(files)
	if err := s.reserveNumbers(files); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan []index.Placed, s.cfg.Readers)
	g.Go(func() error {
		defer close(batches)
		return s.readAll(ctx, files, batches)
	})
	g.Go(func() error {
		idx, err := index.Rebuild(ctx, s.indexConfig(), index.Stream(ctx, batches), s.preferLive, func() ([]byte, error) {
			return s.packs.Encode(state.Coverage{Next: s.packs.Reserve(0)}, s.ident, numberSlack), ctx.Err()
		})
		s.idx = idx
		return err
	})
	return g.Wait()
}

// readAll reads the rows of all packs, several packs at the same time.
func (s *Store) readAll(ctx context.Context, files []state.File, out chan<- []index.Placed) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Readers)
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			p, rows, err := s.loadPack(ctx, f, nil)
			if err != nil || p == nil {
				return err
			}
			recs := make([]index.Placed, 0, len(rows))
			for _, r := range rows {
				if !p.Dead().Has(r.Ordinal) {
					recs = append(recs, index.Placed{Digest: r.Digest, Loc: writer.Loc(p.Number, r)})
				}
			}
			select {
			case out <- recs:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	return g.Wait()
}

// preferLive decides between two entries of one chunk: one that is not
// quarantined, else the newer. If the journal is lost that knew of the
// quarantine, it is the newer one that was put to heal the other.
func (s *Store) preferLive(_ chunks.Digest, a, b index.Loc) index.Loc {
	live := func(l index.Loc) bool {
		p := s.packs.At(l.Pack)
		return p != nil && p.Live(l.Entry)
	}
	if la, lb := live(a), live(b); la != lb {
		if la {
			return a
		}
		return b
	}
	if a.Pack > b.Pack || a.Pack == b.Pack && a.Entry > b.Entry {
		return a
	}
	return b
}

// loadPack reads the list of a pack's entries and puts the pack into the
// table. A pack without a whole footer is read entry by entry and completed.
// It returns no pack for a file that holds nothing of this store.
func (s *Store) loadPack(ctx context.Context, f state.File, known *state.Pack) (*state.Pack, []format.Row, error) {
	file, err := s.fs.OpenFile(f.Name, os.O_RDWR|s.probe.DirectFlag(), 0)
	if err != nil {
		return s.unreadable(f, known, fmt.Errorf("open pack: %w", err))
	}
	defer file.Close()
	h, err := format.ReadHeader(file, f.ID, f.Epoch)
	made := (*format.DamagedHeader)(nil)
	if err != nil && !errors.As(err, &made) {
		return s.unreadable(f, known, err)
	}
	if made == nil && h.Store != s.id.ID {
		s.health.Note(func(h *Health) { h.ForeignFiles = append(h.ForeignFiles, f.Name) })
		return nil, nil, nil
	}
	p := s.admit(f, h, known, made == nil)
	committed := s.packs.CommittedAtStart(p.Number)
	if p.Sealed.Load() { // it was whole once: what is not whole now is damage, not a torn tail
		committed = max(committed, p.Size.Load())
	}
	rows, t, err := format.ReadFooter(file, f.ID, f.Size)
	if err == nil && made != nil && slices.ContainsFunc(rows, func(r format.Row) bool {
		b, err := format.ReadRow(file, r)
		return err == nil && r.Check(b, h) == nil // so it is not derived
	}) {
		if err := s.mendHeader(file, p, h); err != nil {
			return s.unreadable(f, p, err)
		}
		made = nil
	}
	switch {
	case err == nil:
		p.Sealed.Store(true)
		p.Size.Store(f.Size)
		s.packs.SetEntries(p, rows)
		s.packs.Replay(p)
		if made == nil {
			err = s.findHoles(file, p, h, rows, t.DataEnd)
		}
	default:
		s.packs.Replay(p)
		rows, err = s.recoverPack(ctx, file, p, h, f.Size, committed, made != nil)
	}
	if err != nil {
		return s.unreadable(f, p, err)
	}
	if len(rows) == 0 && !p.Unread && !p.Sealed.Load() && committed <= format.HeaderSize {
		return s.discard(f, p, made != nil)
	}
	return p, rows, nil
}

// admit gives a pack file its place in the table: the one that it had, else
// the number in its header, else a new one.
func (s *Store) admit(f state.File, h *format.Header, known *state.Pack, numbered bool) *state.Pack {
	if known != nil {
		return known
	}
	p := &state.Pack{ID: f.ID, Epoch: f.Epoch, Number: h.Number}
	s.packs.Add(p, numbered)
	return p
}

// unreadable keeps a pack that the disk does not let us read in the list of
// what is wrong, and goes on with the others. The next start tries again.
func (s *Store) unreadable(f state.File, p *state.Pack, err error) (*state.Pack, []format.Row, error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, nil, err
	}
	s.log.Error("pack cannot be read", "pack", f.Name, "err", err)
	s.health.Note(func(h *Health) { h.DamagedPacks = append(h.DamagedPacks, f.Name) })
	s.suspect.Store(true)
	if p != nil {
		p.Retired.Store(true)
		p.Unread = true
	}
	return nil, nil, nil
}

// discard deals with a file without a single entry: the remains of a pack that
// was begun at the moment of the crash go; one that is longer and has not even
// a header stays for a person to look at.
func (s *Store) discard(f state.File, p *state.Pack, headless bool) (*state.Pack, []format.Row, error) {
	s.packs.Drop(p.Number)
	if headless && f.Size > format.HeaderSize {
		s.log.Error("pack holds nothing that can be read", "pack", f.Name)
		s.health.Note(func(h *Health) { h.DamagedPacks = append(h.DamagedPacks, f.Name) })
		return nil, nil, nil
	}
	if err := s.fs.Remove(f.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove unfinished pack: %w", err)
	}
	return nil, nil, nil
}

// recoverPack reads a pack entry by entry, cuts off what is behind the last
// whole one, and seals it. What was committed is never cut: where it is
// damaged, the chunk is quarantined.
func (s *Store) recoverPack(ctx context.Context, f disk.File, p *state.Pack, h *format.Header, size, committed int64, headless bool) ([]format.Row, error) {
	rows, end, flaws, err := format.Scan(ctx, f, size, h)
	if err != nil {
		return nil, err
	}
	if headless && len(rows)+len(flaws) > 0 {
		if err := s.mendHeader(f, p, h); err != nil {
			return nil, err
		}
	}
	bad := &state.Bitmap{}
	for _, fl := range flaws {
		if fl.Row.End() <= committed && !p.Dead().Has(fl.Row.Ordinal) {
			rows, end = append(rows, fl.Row), max(end, fl.Row.End())
			bad = bad.With(state.One(fl.Row.Ordinal))
			s.health.Note(func(h *Health) { h.LostEntries++ })
		}
	}
	s.noteUnfound(p, h, rows, end, committed)
	s.packs.SetEntries(p, rows)
	s.packs.Replay(p)
	if len(*bad) > 0 {
		s.packs.Quarantine(p, *bad)
	}
	cut := max(end, min(committed, size), format.HeaderSize)
	s.health.Note(func(h *Health) { h.RecoveredPacks++; h.CutBytes += max(0, size-cut) })
	if len(rows) == 0 {
		p.Retired.Store(true)
		return nil, nil
	}
	if err := format.Settle(s.fs, f, cut); err != nil {
		s.log.Warn("recovered pack could not be made durable; what was not before does not count now", "pack", p.Name(), "err", err)
		s.suspect.Store(true)
		p.Retired.Store(true)
		p.Unread = true
		p.Size.Store(cut)
		rows = slices.DeleteFunc(rows, func(r format.Row) bool { return r.End() > committed })
		s.packs.SetEntries(p, rows)
		return rows, nil
	}
	sealed, err := format.WriteTail(f, p.ID, append([]format.Row(nil), rows...), cut)
	if err != nil {
		s.log.Warn("recovered pack could not be sealed now", "pack", p.Name(), "err", err)
		p.Retired.Store(true)
		p.Size.Store(cut)
		return rows, nil
	}
	p.Size.Store(sealed)
	p.Sealed.Store(true)
	return rows, nil
}

// mendHeader writes the header of a pack anew, durably, before anything is
// noted under the pack's number: a power cut may have left entries without a
// header, and without it the pack would get another number at each start, and
// what the journal says of its entries would hold for those of another pack.
func (s *Store) mendHeader(f disk.File, p *state.Pack, h *format.Header) error {
	h.Store, h.Created, h.Number = s.id.ID, time.Now(), p.Number
	s.health.Note(func(h *Health) { h.MendedHeaders++ })
	return format.WriteHeader(f, h)
}

// findHoles notes the entries that were reclaimed where the journal that said
// so is lost.
func (s *Store) findHoles(f disk.File, p *state.Pack, h *format.Header, rows []format.Row, dataEnd int64) error {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r format.Row) bool { return p.Dead().Has(r.Ordinal) })
	gone, err := format.Holed(f, h, rows, dataEnd)
	if len(gone) > 0 {
		s.packs.Bury(p, state.Ordinals(gone))
	}
	return err
}
