package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A runWriter writes a run whose records come in ascending order. It needs
// memory for two buffers and for 8 bytes per 1,024 records.
type runWriter struct {
	fs     disk.FS
	f      disk.File
	name   string
	head   header
	lines  lineBuilder
	front  section // what lies between header and records
	block  []byte  // records that are not written yet
	sums   []byte  // of the blocks before
	n      uint64
	buried uint64
}

// createRun begins a run of at most bound records. With lines it gets an
// accelerator of the size for bound, without it serves only to be read in order.
func createRun(cfg Config, number, bound uint64, lines bool) (*runWriter, error) {
	if bound > maxRecords {
		return nil, fmt.Errorf("a run of %d records is too large, want at most %d", bound, maxRecords)
	}
	w := &runWriter{
		fs:    cfg.FS,
		name:  path.Join(cfg.Dir, runName(number)),
		head:  header{number: number},
		block: make([]byte, 0, blockSize),
	}
	if lines {
		w.head.lines = linesFor(bound)
	}
	var err error
	// Exclusive: whatever goes wrong, no run that counts is overwritten.
	if w.f, err = cfg.FS.OpenFile(w.name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("create run of index: %w", err)
	}
	w.front = section{f: w.f, off: headerSize, sum: xxhash.New()}
	w.lines = lineBuilder{lines: w.head.lines, emit: func(l *[lineSize]byte) error { return w.front.write(l[:]) }}
	if _, err := w.f.WriteAt(w.head.encode(), 0); err != nil {
		return nil, errors.Join(w.failed(err), w.abort())
	}
	return w, nil
}

func (w *runWriter) failed(err error) error {
	return fmt.Errorf("write run of index %s: %w", w.name, err)
}

// add appends a record that is larger than all before.
func (w *runWriter) add(r *record) error {
	if err := w.lines.add(r.digest()); err != nil {
		return w.failed(err)
	}
	w.block = append(w.block, r[:]...)
	w.n++
	if r.dead() {
		w.buried++
	}
	if len(w.block) == blockSize {
		return w.flushBlock()
	}
	return nil
}

func (w *runWriter) flushBlock() error {
	off := w.head.recordsOff() + int64(len(w.sums)/sumSize)*blockSize
	w.sums = binary.LittleEndian.AppendUint64(w.sums, xxhash.Sum64(w.block))
	if _, err := w.f.WriteAt(w.block, off); err != nil {
		return w.failed(err)
	}
	w.block = w.block[:0]
	return nil
}

// finish completes the file and closes it, durable only if it is asked to be.
func (w *runWriter) finish(durable bool) (runInfo, error) {
	if err := w.complete(durable); err != nil {
		return runInfo{}, errors.Join(err, w.abort())
	}
	err := w.f.Close()
	w.f = nil
	if err != nil {
		return runInfo{}, errors.Join(w.failed(err), w.abort())
	}
	return runInfo{number: w.head.number, records: w.n, sum: footerSum(w.footer())}, nil
}

func (w *runWriter) complete(durable bool) error {
	if len(w.block) > 0 {
		if err := w.flushBlock(); err != nil {
			return err
		}
	}
	if err := w.lines.finish(); err != nil {
		return w.failed(err)
	}
	if err := w.front.pad(w.head.recordsOff()); err != nil {
		return w.failed(err)
	}
	tail := append(w.sums[:len(w.sums):len(w.sums)], w.footer()...)
	if _, err := w.f.WriteAt(tail, w.head.recordsOff()+int64(w.n)*recordSize); err != nil {
		return w.failed(err)
	}
	if durable {
		if err := w.f.Sync(); err != nil {
			return w.failed(err)
		}
		// The name has to last before a list can mention it.
		if err := w.fs.SyncDir(path.Dir(w.name)); err != nil {
			return w.failed(err)
		}
	}
	return nil
}

func (w *runWriter) footer() []byte {
	return footer{
		records:    w.n,
		tombstones: w.buried,
		linesSum:   w.front.sum.Sum64(),
		blocksSum:  xxhash.Sum64(w.sums),
		headerSum:  xxhash.Sum64(w.head.encode()),
	}.encode()
}

// abort gives up: it closes the file, if that is still to be done, and
// removes it.
func (w *runWriter) abort() error {
	var err error
	if w.f != nil {
		err = w.f.Close()
		w.f = nil
	}
	return errors.Join(err, w.fs.Remove(w.name))
}

// A section is a part of a file that is written from its beginning to its end,
// with its sum.
type section struct {
	f   disk.File
	off int64 // of buf
	buf []byte
	sum *xxhash.Digest
}

// sectionBuffer is a compromise between calls and memory.
const sectionBuffer = 64 << 10

func (s *section) write(b []byte) error {
	_, _ = s.sum.Write(b) // never fails
	s.buf = append(s.buf, b...)
	if len(s.buf) < sectionBuffer {
		return nil
	}
	return s.flush()
}

func (s *section) flush() error {
	_, err := s.f.WriteAt(s.buf, s.off)
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return err
}

// pad writes zeros up to the offset end.
func (s *section) pad(end int64) error {
	if err := s.write(make([]byte, end-s.off-int64(len(s.buf)))); err != nil {
		return err
	}
	return s.flush()
}
