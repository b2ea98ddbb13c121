package index

import (
	"bytes"
	"context"
	"runtime"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Check reads the files of the index and checks every sum, the order of the
// records and that the accelerators lead to them. The error matches
// [ErrDamaged] if something is wrong. It is due after an unclean stop, at every
// scrub, and before anything is deleted because a lookup did not find it. It
// reads 50.5 bytes a chunk: 0.13 s for 10 million if they are in memory.
func (x *Index) Check(ctx context.Context) error {
	v, err := x.checkCurrent(ctx)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(v)
	for _, r := range v.runs {
		if err := r.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkCurrent compares the list on disk with the one in memory, and returns
// what it lists.
func (x *Index) checkCurrent(ctx context.Context) (*view, error) {
	if err := x.own(ctx); err != nil {
		return nil, err
	}
	defer x.yield()
	v := x.view.Load()
	onDisk, err := readCurrent(x.cfg)
	if err != nil {
		return nil, err
	}
	// A flush that failed at the end may have left a list that is newer.
	if v.generation != 0 && onDisk.generation == 0 {
		return nil, damaged(x.cfg.Dir, "its file %q is gone", currentName)
	}
	return v, nil
}

// check reads the whole run.
func (r *run) check(ctx context.Context) error {
	ends := make([]byte, headerSize+footerSize)
	if err := r.readAt(ends[:headerSize], 0); err != nil {
		return err
	}
	if err := r.readAt(ends[headerSize:], r.head.fileSize(r.n)-footerSize); err != nil {
		return err
	}
	if xxhash.Sum64(ends[:headerSize]) != r.foot.headerSum || !bytes.Equal(ends[headerSize:], r.foot.encode()) {
		return damaged(r.file, "its header or footer has changed")
	}
	onDisk, err := r.sumLines(ctx)
	if err != nil {
		return err
	}
	wanted, err := r.checkRecords(ctx)
	if err != nil {
		return err
	}
	if onDisk != r.foot.linesSum || wanted != r.foot.linesSum {
		return damaged(r.file, "its accelerator is not that of its records")
	}
	return nil
}

// sumLines returns the sum of what lies between header and records.
func (r *run) sumLines(ctx context.Context) (uint64, error) {
	sum := xxhash.New()
	buf := make([]byte, blockSize)
	for off := int64(headerSize); off < r.head.recordsOff(); {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		part := buf[:min(int64(len(buf)), r.head.recordsOff()-off)]
		if err := r.readAt(part, off); err != nil {
			return 0, err
		}
		_, _ = sum.Write(part) // never fails
		off += int64(len(part))
	}
	return sum.Sum64(), nil
}

// checkRecords reads all records and returns what sumLines has to return.
func (r *run) checkRecords(ctx context.Context) (uint64, error) {
	sum := xxhash.New()
	lines := lineBuilder{lines: r.head.lines, emit: func(l *[lineSize]byte) error {
		_, _ = sum.Write(l[:]) // never fails
		return nil
	}}
	var last chunks.Digest
	var tombstones uint64
	src := &runSource{r: r}
	for n := uint64(0); n < r.n; n++ {
		if n%blockRecords == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		rec, err := src.next()
		if err != nil {
			return 0, err
		}
		if n > 0 && bytes.Compare(last[:], rec[:chunks.DigestSize]) >= 0 {
			return 0, damaged(r.file, "its record %d is out of order", n)
		}
		if rec.dead() {
			tombstones++
		}
		last = *rec.digest()
		_ = lines.add(&last) // emit never fails
	}
	_ = lines.finish()
	if tombstones != r.foot.tombstones {
		return 0, damaged(r.file, "it has %d tombstones, want %d", tombstones, r.foot.tombstones)
	}
	pad := r.head.recordsOff() - headerSize - int64(r.head.lines)*lineSize
	_, _ = sum.Write(make([]byte, pad))
	return sum.Sum64(), nil
}
