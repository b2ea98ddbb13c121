package index

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const runSuffix = ".run"

// A runInfo is what the file current knows of a run.
type runInfo struct {
	number  uint64
	records uint64
	sum     uint64 // of the footer, and so of everything
}

// runName returns the file name of a run: its number in 16 hexadecimal digits.
func runName(number uint64) string { return fmt.Sprintf("%016x%s", number, runSuffix) }

func parseRunName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, runSuffix)
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, ok && err == nil && runName(number) == name
}

// A run is an open run file. It is immutable and safe for concurrent use.
type run struct {
	file  string // path, for messages
	head  header
	foot  footer
	n     uint64 // records, as in foot
	lines []byte
	recs  []byte
	held  *mapping
}

// openRun maps the run file that info describes. It checks header, footer and
// length; the rest is for [Index.Check].
func openRun(fsys disk.FS, dir string, info runInfo) (*run, error) {
	name := path.Join(dir, runName(info.number))
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{File: name, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open run of index: %w", err)
	}
	held, err := mapFile(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map run of index %s: %w", name, err), f.Close())
	}
	r, err := parseRun(held.data, info)
	if err != nil {
		return nil, errors.Join(&DamagedError{File: name, Err: err}, held.release())
	}
	r.file, r.held = name, held
	// A run that was merged away is still read by lookups that began before;
	// to count them would cost more than the lookup. So the garbage collector
	// says when the last one is gone.
	runtime.AddCleanup(r, func(m *mapping) { _ = m.release() }, held)
	return r, nil
}

// parseRun finds the parts of a run file in data. info must be what the footer
// says.
func parseRun(data []byte, info runInfo) (*run, error) {
	if len(data) < headerSize+footerSize {
		return nil, fmt.Errorf("%d bytes are too few for a run", len(data))
	}
	head, err := parseHeader(data[:headerSize])
	if err != nil {
		return nil, err
	}
	foot, sum, err := parseFooter(data[len(data)-footerSize:])
	if err != nil {
		return nil, err
	}
	switch {
	case head.number != info.number || foot.records != info.records || sum != info.sum:
		return nil, fmt.Errorf("it is run %d with %d records and sum %x, want run %d with %d and %x",
			head.number, foot.records, sum, info.number, info.records, info.sum)
	case int64(len(data)) != head.fileSize(foot.records):
		return nil, fmt.Errorf("it is %d bytes long, want %d", len(data), head.fileSize(foot.records))
	}
	off := head.recordsOff()
	return &run{
		head:  head,
		foot:  foot,
		n:     foot.records,
		lines: data[headerSize : headerSize+head.lines*lineSize],
		recs:  data[off : off+int64(foot.records)*recordSize],
	}, nil
}

// line returns the line of k; the run must have lines.
func (r *run) line(k *key) *[lineSize]byte {
	lines := uint64(len(r.lines)) / lineSize
	return (*[lineSize]byte)(r.lines[lineOf(k.prefix, lines)*lineSize:])
}

// record returns a record by its ordinal, which must be below n.
func (r *run) record(ord uint64) *record {
	return (*record)(r.recs[ord*recordSize:])
}

// find returns the record of k, or nil. The caller keeps r alive for as long
// as it uses the result.
func (r *run) find(k *key) *record {
	if len(r.lines) == 0 {
		return r.search(k, 0, r.n)
	}
	line := r.line(k)
	first := uint64(uint32(lineWord(line, 0)))
	if first&lineOverflow != 0 {
		first &^= lineOverflow
		return r.search(k, first, first+lineWord(line, 0)>>32)
	}
	for m := match(line, k.prints); m != 0; m = m.rest() {
		// A damaged line can point anywhere.
		if ord := first + m.any(); ord < r.n {
			if rec := r.record(ord); *rec.digest() == *k.d {
				return rec
			}
		}
	}
	return nil
}

// search finds k among the records [from, to) by halving.
func (r *run) search(k *key, from, to uint64) *record {
	to = min(to, r.n)
	for from < to {
		mid := (from + to) / 2
		rec := r.record(mid)
		switch c := bytes.Compare(rec[:chunks.DigestSize], k.d[:]); {
		case c == 0:
			return rec
		case c < 0:
			from = mid + 1
		default:
			to = mid
		}
	}
	return nil
}

// A mapping is the content of a file as memory, and the file. It is released
// once, by whoever comes first.
type mapping struct {
	data  []byte
	file  disk.File
	unmap func() error // nil: data is on the heap
	gone  atomic.Bool
}

// mapFile maps f, or reads it where the file system cannot map.
func mapFile(f disk.File) (*mapping, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if m, ok := f.(disk.Mapper); ok && size > 0 {
		data, unmap, err := m.Map()
		if !errors.Is(err, errors.ErrUnsupported) {
			return &mapping{data: data, file: f, unmap: unmap}, err
		}
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), data); err != nil {
		return nil, err
	}
	return &mapping{data: data, file: f}, nil
}

func (m *mapping) release() error {
	if m.gone.Swap(true) {
		return nil
	}
	var err error
	if m.unmap != nil {
		err = m.unmap()
	}
	m.data = nil // which may be on the heap
	return errors.Join(err, m.file.Close())
}
