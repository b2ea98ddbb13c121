// Package writer appends to open packs: it gathers entries in memory, writes
// them in large blocks, makes them durable for all callers at once, and seals
// packs.
package writer

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// A Writer appends to one open pack. Every commit ends on a block and the next
// entry begins behind it, so no block that is durable is ever written again.
type Writer struct {
	env  *Env
	p    *state.Pack
	file disk.File

	// syncing is held by the one commit that is making the pack durable.
	// Others wait for it and mostly find their work done.
	syncing sync.Mutex
	linked  bool // the file's name is durable

	mu sync.Mutex

	rows        []format.Row
	end         int64   // offset behind the last entry or its padding
	buf         []byte  // what was not handed to the disk yet
	bufOff      int64   // where buf begins in the file
	flight      *flight // the last write handed over, done or not
	durable     int64   // everything below is on the disk
	durableRows int
	err         error // why this pack takes nothing more
}

// Env is what the writers of a store share.
type Env struct {
	FS     disk.FS
	Index  *index.Index
	Log    *slog.Logger
	Failed func(err error) // a pack failed; what was not durable is forgotten
}

// ErrClosed is what a writer says that was closed.
var ErrClosed = errors.New("pack is closed")

// New returns a writer for a pack that has nothing but its header.
func (e *Env) New(p *state.Pack, f disk.File) *Writer {
	p.Size.Store(format.HeaderSize)
	return &Writer{env: e, p: p, file: f, end: format.HeaderSize, bufOff: format.HeaderSize, buf: disk.GetLarge()}
}

// Continue returns a writer that goes on behind rows, all of which are
// durable.
func (e *Env) Continue(p *state.Pack, f disk.File, rows []format.Row) *Writer {
	end := max(format.HeaderSize, format.AlignUp(p.Size.Load(), format.Align)) // the last entries may be holes
	for _, r := range rows {
		end = max(end, format.AlignUp(r.End(), format.Align))
	}
	return &Writer{
		env: e, p: p, file: f, linked: true, rows: rows, end: end, bufOff: end, buf: disk.GetLarge(),
		durable: end, durableRows: len(rows),
	}
}

// Loc is where the index finds a row of a pack.
func Loc(number uint32, r format.Row) index.Loc {
	return index.Loc{Pack: number, Entry: r.Ordinal, Off: uint32(r.Off / format.SmallAlign), Len: r.Stored}
}

// Pack returns the pack that w writes.
func (w *Writer) Pack() *state.Pack { return w.p }

// Entries returns the ordinal behind the last entry that is in the index.
func (w *Writer) Entries() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.Entries.Load()
}

// DurableEntries returns the ordinal behind the last durable entry.
func (w *Writer) DurableEntries() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.durableRows == 0 {
		return 0
	}
	return w.rows[w.durableRows-1].Ordinal + 1
}

// Rows returns the durable entries, and false once w takes no more.
func (w *Writer) Rows() ([]format.Row, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.rows[:w.durableRows]), w.err == nil
}

// maxRows is the most entries that a pack is given, so that what a writer
// remembers of them, and a footer, stay below some megabytes.
const maxRows = 64 << 10

// Fits reports whether a blob of n bytes still goes into a pack of at most max
// bytes, or why nothing does. An empty pack takes any blob.
func (w *Writer) Fits(n int, max int64) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := format.EntryStart(w.end, n) + format.EntrySize + int64(n)
	return end <= max && len(w.rows) < maxRows || len(w.rows) == 0, w.err
}

// A flight is a buffer on its way to the disk.
type flight struct {
	buf  []byte
	off  int64
	done chan struct{} // closed when the write has ended
	err  error         // valid once done is closed
}

// Append adds one chunk to the pack, and unless it moves to the index; its row
// comes back with place and ordinal. pin is called before anybody can see it.
func (w *Writer) Append(r format.Row, epoch uint64, blob chunks.Blob, pin func(state.Ref), moves bool) (format.Row, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return r, w.err
	}
	r.Off, r.Ordinal = format.EntryStart(w.end, len(blob)), w.p.Entries.Load()
	if pin != nil {
		pin(state.Ref{Pack: w.p.Number, Entry: r.Ordinal})
	}
	e := format.Entry{
		Digest: r.Digest, Pack: w.p.ID.Low(), Own: r.Off, Stored: r.Stored, Plain: r.Plain,
		Sum: r.Sum, Ordinal: r.Ordinal, Epoch: epoch,
	}
	var head [format.EntrySize]byte
	e.Encode(head[:])
	w.pad(r.Off)
	w.copyIn(head[:])
	w.copyIn(blob)
	if w.err != nil {
		return r, w.err
	}
	w.rows = append(w.rows, r)
	w.p.Entries.Add(1)
	w.p.Size.Store(w.end)
	if !moves {
		w.env.Index.Insert(r.Digest, Loc(w.p.Number, r))
	}
	return r, nil
}

// pad fills the file with zeros up to the offset to.
func (w *Writer) pad(to int64) {
	var zeros [format.Align]byte
	for w.end < to && w.err == nil {
		w.copyIn(zeros[:min(to-w.end, format.Align)])
	}
}

// copyIn takes b into the buffer and sends full buffers off.
func (w *Writer) copyIn(b []byte) {
	for len(b) > 0 && w.err == nil {
		if len(w.buf) == cap(w.buf) {
			w.send()
			continue
		}
		n := min(len(b), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		w.end += int64(n)
		b = b[n:]
	}
}

// send hands the buffer, which ends on a block, to the disk and takes another.
// It first waits for the write before, so that only one is under way.
func (w *Writer) send() {
	w.land()
	if w.err != nil {
		return
	}
	next := disk.GetLarge()
	if len(w.buf) > 0 {
		f := &flight{buf: w.buf, off: w.bufOff, done: make(chan struct{})}
		w.flight, w.bufOff = f, w.bufOff+int64(len(w.buf))
		go func() {
			defer close(f.done)
			_, f.err = w.file.WriteAt(f.buf, f.off)
		}()
	}
	w.buf = next
}

// land waits for the write under way, if any, and learns how it went.
func (w *Writer) land() {
	f := w.flight
	if f == nil {
		return
	}
	<-f.done
	w.flight = nil
	disk.PutLarge(f.buf)
	if f.err != nil {
		w.fail(fmt.Errorf("write %s: %w", w.file.Name(), f.err))
	}
}

// fail ends the life of the pack: what is durable stays, the entries behind it
// are forgotten, here and in the index. After a failed fsync the kernel may
// have dropped any page, so nothing is tried again on this file.
func (w *Writer) fail(err error) {
	if w.err != nil {
		return
	}
	w.err = chunks.NoSpace(err)
	for _, r := range w.rows[w.durableRows:] {
		w.env.Index.Delete(r.Digest, Loc(w.p.Number, r))
	}
	w.rows = w.rows[:w.durableRows]
	w.p.Size.Store(w.durable)
	w.env.Failed(w.err)
	w.env.Log.Error("pack failed; what was not durable is forgotten", "pack", w.p.Name(), "durable_bytes", w.durable, "err", err)
}

// Commit makes every entry appended before the call durable, and returns up to
// which offset the pack is.
func (w *Writer) Commit() (durable int64, err error) {
	w.mu.Lock()
	target := w.end
	w.mu.Unlock()

	w.syncing.Lock()
	defer w.syncing.Unlock()

	w.mu.Lock()
	if w.err != nil || w.durable >= target {
		defer w.mu.Unlock()
		return w.durable, w.err
	}
	w.pad(format.AlignUp(w.end, format.Align))
	w.send()
	f, end, rows := w.flight, w.end, len(w.rows)
	err = w.err
	w.mu.Unlock()
	if err == nil && f != nil {
		<-f.done
		err = f.err
	}
	if err == nil {
		err = w.sync()
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.fail(fmt.Errorf("sync %s: %w", w.file.Name(), err))
	}
	if w.err != nil { // also if a write behind ours failed: it took our rows along
		return w.durable, w.err
	}
	w.durable, w.durableRows = end, rows
	if w.flight == f { // what is durable is read from the disk, so that a verification sees what is there
		w.land()
	}
	return end, nil
}

// sync makes the file durable, and on the first time its name.
func (w *Writer) sync() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	if w.linked {
		return nil
	}
	err := w.env.FS.SyncDir(path.Dir(w.file.Name()))
	w.linked = err == nil
	return err
}

// Seal completes the pack: footer and trailer, after which it never changes.
// If only these cannot be written, nothing is lost and the pack stays open;
// the next start seals it.
func (w *Writer) Seal() error {
	if _, err := w.Commit(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	size, err := format.WriteTail(w.file, w.p.ID, slices.Clone(w.rows), w.end) // which sorts them
	if err != nil {
		return fmt.Errorf("seal %s: %w", w.file.Name(), chunks.NoSpace(err))
	}
	w.p.Size.Store(size)
	w.p.Sealed.Store(true)
	return nil
}

// Close waits for the disk and lets go of file and memory.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.land()
	if w.err == nil {
		w.err = ErrClosed
	}
	disk.PutLarge(w.buf)
	w.buf = nil
	return w.file.Close()
}

// ReadAt fills b from off with what is still in memory and returns how many
// bytes at the start of b must come from the file.
func (w *Writer) ReadAt(b []byte, off int64) (fromFile int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fromFile = len(b)
	if w.buf == nil { // closed: all of it is in the file
		return fromFile
	}
	take := func(part []byte, at int64) {
		lo, hi := max(off, at), min(off+int64(fromFile), at+int64(len(part)))
		if lo < hi {
			copy(b[lo-off:hi-off], part[lo-at:hi-at])
			fromFile = int(lo - off)
		}
	}
	take(w.buf, w.bufOff)
	if w.flight != nil {
		take(w.flight.buf, w.flight.off)
	}
	return fromFile
}
