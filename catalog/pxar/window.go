package pxar

import (
	"fmt"
	"io"
	"sync"
)

// What is read at once around an entry, in bytes: names and metadata of most
// entries take less than 200.
const (
	entryBlock = 4 << 10  // of an entry alone
	listBlock  = 64 << 10 // where entries lie close together
	maxSpread  = 32 << 10 // how far apart they may lie for that
)

// A window is a cursor over an io.ReaderAt. It remembers the block it read
// last.
type window struct {
	r     io.ReaderAt
	size  int64
	pos   int64
	block int   // how much is read at once
	at    int64 // of buf
	buf   []byte
}

func (w *window) offset() int64 { return w.pos }

func (w *window) Read(p []byte) (int, error) {
	if w.pos < w.at || w.pos >= w.at+int64(len(w.buf)) {
		if err := w.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.buf[w.pos-w.at:])
	w.pos += int64(n)
	return n, nil
}

// load reads the block at pos. If only its beginning can be read, that is what
// the window has: the rest may not be needed.
func (w *window) load() error {
	n := min(int64(w.block), w.size-w.pos)
	if n <= 0 {
		return io.EOF
	}
	if cap(w.buf) < int(n) {
		w.buf = make([]byte, max(n, entryBlock))
	}
	m, err := w.r.ReadAt(w.buf[:n], w.pos)
	w.at, w.buf = w.pos, w.buf[:m]
	if m == 0 && err != nil {
		return readError(w.pos, err)
	}
	return nil
}

func readError(at int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return fmt.Errorf("read archive at offset %d: %w", at, err)
}

// readAt fills p.
func readAt(r io.ReaderAt, p []byte, at int64) error {
	if n, err := r.ReadAt(p, at); n < len(p) {
		return readError(at+int64(n), err)
	}
	return nil
}

// An itemReader reads items anywhere in an archive.
type itemReader struct {
	window window
	scan   scanner
}

var itemReaders = sync.Pool{New: func() any { return new(itemReader) }}

// reader returns an item reader, which must be released.
func (a *Archive) reader() *itemReader {
	rd := itemReaders.Get().(*itemReader)
	rd.window = window{r: a.r, size: a.size, block: entryBlock, buf: rd.window.buf[:0]}
	return rd
}

func (rd *itemReader) release() {
	rd.window.r = nil
	if cap(rd.scan.buf) <= MaxXattr {
		itemReaders.Put(rd)
	}
}

// seek moves to the items in [at, end).
func (rd *itemReader) seek(at, end int64) {
	rd.window.pos = at
	rd.scan.reset(&rd.window, end)
}
