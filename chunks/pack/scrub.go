package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// ScrubOptions says how [Store.Scrub] works.
type ScrubOptions struct {
	Deep       bool        // also decode, and compare content with name
	Key        *chunks.Key // for Deep: opens encrypted chunks; without it their CRC and sum are checked
	Quarantine bool        // deny damaged chunks from now on, so that they are stored again

	// Progress, if given, is called after each pack, from several goroutines.
	Progress func(Progress)
}

// Progress is how far a long piece of work has come.
type Progress struct {
	Packs, PacksTotal int
	Bytes, BytesTotal int64
}

// Damage is one thing that a scrub found.
type Damage struct {
	Pack   string        `json:"pack"`
	Offset int64         `json:"offset"`
	Digest chunks.Digest `json:"digest"` // zero: not a chunk but the pack itself
	Ref    Ref           `json:"ref"`
	Err    error         `json:"-"`
	Reason string        `json:"reason"`
}

// ScrubReport sums up a scrub.
type ScrubReport struct {
	Packs   int      `json:"packs"`
	Chunks  int64    `json:"chunks"`
	Bytes   int64    `json:"bytes"`
	Damaged []Damage `json:"damaged,omitempty"`
}

// Scrub reads every pack from front to back, several at the same time, and
// compares each chunk with its sums. It needs the disk's time and little else;
// backups go on. Damage is reported, not an error: Scrub fails only when it
// cannot go on. The index's own files are checked as well.
func (s *Store) Scrub(ctx context.Context, opt ScrubOptions) (ScrubReport, error) {
	if err := s.Commit(ctx); err != nil { // what is in memory only cannot be read from the disk
		return ScrubReport{}, err
	}
	c := &scrub{s: s, opt: opt, short: map[uint32]loss{}}
	var packs []*state.Pack
	for _, p := range s.packs.All() {
		if p.Entries.Load() == 0 && !p.Sealed.Load() && !p.Retired.Load() {
			continue // just being made
		}
		packs = append(packs, p)
		c.total.Bytes += p.Size.Load()
	}
	c.total.PacksTotal, c.total.BytesTotal = len(packs), c.total.Bytes
	c.total.Bytes = 0
	if err := s.idx.Check(ctx); err != nil {
		if ctx.Err() != nil {
			return c.report, ctx.Err()
		}
		c.add(Damage{Pack: "index", Err: err})
		s.suspect.Store(true)
	}
	parent := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Readers)
	c.g = g
	for _, p := range packs {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return c.pack(ctx, p) })
	}
	err := g.Wait()
	if err == nil {
		err = c.nameShort(parent)
	}
	slices.SortFunc(c.report.Damaged, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Offset, b.Offset))
	})
	return c.report, err
}

// A scrub is one pass over the packs.
type scrub struct {
	s   *Store
	opt ScrubOptions
	g   *errgroup.Group // the readers

	mu sync.Mutex

	report ScrubReport
	total  Progress
	short  map[uint32]loss // packs in which not every entry could be found
}

func (c *scrub) add(d Damage) {
	d.Reason = d.Err.Error()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Damaged = append(c.report.Damaged, d)
}

// pack checks one pack. Only the end of ctx is an error.
func (c *scrub) pack(ctx context.Context, p *state.Pack) error {
	f, err := c.s.fs.OpenFile(c.s.path(p), os.O_RDONLY|c.s.probe.DirectFlag(), 0)
	if err != nil {
		if c.s.packs.At(p.Number) == p { // else reclaimed meanwhile
			c.add(Damage{Pack: p.Name(), Err: readError(err)})
			if errors.Is(err, os.ErrNotExist) {
				p.Missing.Store(true)
				c.mu.Lock()
				c.short[p.Number] = loss{p.Dead(), math.MaxInt64}
				c.mu.Unlock()
			}
		}
		return ctx.Err()
	}
	defer f.Close()
	h, err := format.ReadHeader(f, p.ID, p.Epoch)
	place := h
	if err != nil {
		c.add(Damage{Pack: p.Name(), Err: fmt.Errorf("header: %w", err)})
		h, place = &format.Header{ID: p.ID, Epoch: p.Epoch}, nil
	}
	rows, err := c.s.rowsOf(ctx, f, p, h)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.add(Damage{Pack: p.Name(), Err: err})
	}
	if !errors.Is(err, errUnread) {
		c.compare(p, rows)
	}
	slices.SortFunc(rows, func(a, b format.Row) int { return cmp.Compare(a.Off, b.Off) })
	var parts sync.WaitGroup
	defer parts.Wait() // before f is closed
	for len(rows) > 0 {
		part := format.Stretch(rows, partBytes)
		rows = rows[len(part):]
		parts.Add(1)
		check := func() error {
			defer parts.Done()
			return c.part(ctx, f, p, place, part)
		}
		if len(rows) > 0 && c.g.TryGo(check) {
			continue
		}
		if err := check(); err != nil {
			return err
		}
	}
	parts.Wait()
	c.done(p.Size.Load())
	return ctx.Err()
}

// partBytes is how much of a pack a reader that has nothing else to do takes
// over, so that towards the end all are busy.
const partBytes = 8 << 20

// part checks neighbours in a pack.
func (c *scrub) part(ctx context.Context, f disk.File, p *state.Pack, h *format.Header, rows []format.Row) error {
	var n, bytes int64
	w := format.NewWindow(f, min(p.Size.Load(), rows[len(rows)-1].End()))
	defer w.Free()
	for _, r := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.Dead().Has(r.Ordinal) {
			continue
		}
		n, bytes = n+1, bytes+int64(r.Stored)
		if err := c.row(f, w, h, r); err != nil && !p.Dead().Has(r.Ordinal) {
			c.damaged(p, r, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Chunks += n
	c.report.Bytes += bytes
	return nil
}

// compare notes p if not all of its entries were found.
func (c *scrub) compare(p *state.Pack, rows []format.Row) {
	if c.s.writerOf(p) != nil {
		return // entries go on being added
	}
	found := p.Dead().With(state.Ordinals(rows))
	for o := range p.Entries.Load() {
		if !found.Has(o) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.short[p.Number] = loss{found, math.MaxInt64}
			return
		}
	}
}

// nameShort reports the chunks that the index places in entries which were not
// found.
func (c *scrub) nameShort(ctx context.Context) error {
	return c.s.unfound(ctx, c.short, func(d chunks.Digest, l index.Loc) {
		p, off := c.s.packs.At(l.Pack), int64(l.Off)*format.SmallAlign
		switch {
		case p == nil || l.Entry >= p.Entries.Load() || p.Dead().Has(l.Entry):
		case p.Missing.Load(): // no quarantine: the file may come back
			c.add(Damage{p.Name(), off, d, Ref{Pack: p.Number, Entry: l.Entry}, fmt.Errorf("%w: its pack is not there", chunks.ErrMissing), ""})
		default:
			c.damaged(p, format.Row{Digest: d, Off: off, Ordinal: l.Entry}, errGone)
		}
	})
}

// row checks one entry through the window. What the window cannot read whole
// is read again by itself, so that a bad block stays the trouble of one chunk.
func (c *scrub) row(f disk.File, w *format.Window, h *format.Header, r format.Row) error {
	b, err := w.At(r.Off, format.EntrySize+int(r.Stored))
	if err != nil {
		if b, err = format.ReadRow(f, r); err != nil {
			return err
		}
	}
	if err := r.Check(b, h); err != nil || !c.opt.Deep {
		return err
	}
	return chunks.Blob(b[format.EntrySize:]).Verify(r.Digest, c.opt.Key)
}

func (c *scrub) damaged(p *state.Pack, r format.Row, err error) {
	ref := Ref{Pack: p.Number, Entry: r.Ordinal}
	c.add(Damage{p.Name(), r.Off, r.Digest, ref, fmt.Errorf("%w: %w", chunks.ErrCorrupt, err), ""})
	if !c.opt.Quarantine {
		return
	}
	if err := c.s.Quarantine(ref); err != nil {
		c.s.log.Error("quarantine chunk", "chunk", r.Digest.String(), "err", err)
	}
}

func (c *scrub) done(size int64) {
	c.mu.Lock()
	c.report.Packs++
	c.total.Packs++
	c.total.Bytes += size
	now := c.total
	c.mu.Unlock()
	if c.opt.Progress != nil {
		c.opt.Progress(now)
	}
}

// rows returns the entries of a pack.
func (s *Store) rows(ctx context.Context, p *state.Pack) ([]format.Row, error) {
	f, err := s.fs.OpenFile(s.path(p), os.O_RDONLY|s.probe.DirectFlag(), 0)
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	defer f.Close()
	h, err := format.ReadHeader(f, p.ID, p.Epoch)
	made := (*format.DamagedHeader)(nil)
	if err != nil && !errors.As(err, &made) {
		return nil, err
	}
	return s.rowsOf(ctx, f, p, h)
}

// rowsOf returns the entries of an open pack: from the writer, from the
// footer, or, where there is none, by looking at each. A damaged footer of a
// sealed pack is an error beside the rows that were found.
func (s *Store) rowsOf(ctx context.Context, f disk.File, p *state.Pack, h *format.Header) ([]format.Row, error) {
	if w := s.writerOf(p); w != nil {
		if rows, open := w.Rows(); open {
			return rows, nil
		}
	}
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	var footer error
	if p.Sealed.Load() {
		var rows []format.Row
		if rows, _, footer = format.ReadFooter(f, p.ID, size); footer == nil {
			return rows, nil
		}
		footer = fmt.Errorf("footer: %w", footer)
	}
	if !p.Sealed.Load() {
		size = min(size, p.Size.Load()) // behind it lies what a failed writer was forgiven
	}
	rows, _, flaws, err := format.Scan(ctx, f, size, h)
	if err != nil {
		return nil, errors.Join(footer, fmt.Errorf("%w: %w", errUnread, err))
	}
	for _, fl := range flaws {
		rows = append(rows, fl.Row)
	}
	return rows, footer
}

// Quarantine denies a chunk that was found damaged: whoever has it may store it
// again, and then the new copy counts. Its bytes stay while a snapshot names it.
func (s *Store) Quarantine(r Ref) error { return s.deny(r, s.packs.Quarantine) }

// Absolve ends the quarantine of a chunk that was found whole.
func (s *Store) Absolve(r Ref) error { return s.deny(r, s.packs.Absolve) }

func (s *Store) deny(r Ref, note func(*state.Pack, []uint64)) error {
	p := s.packs.At(r.Pack)
	if p == nil || r.Entry >= p.Entries.Load() {
		return fmt.Errorf("quarantine: there is no entry %d of pack %d", r.Entry, r.Pack)
	}
	note(p, state.One(r.Entry))
	return s.syncJournal()
}

// Quarantined returns the entries that are denied and were not condemned since.
func (s *Store) Quarantined() *Set {
	set := &Set{}
	for _, p := range s.packs.All() {
		if bad := p.Bad(); bad != nil {
			set.OrRow(p.Number, *bad)
		}
	}
	set.AndNot(s.packs.Condemned())
	return set
}
