package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A segment is a file of chunks, each behind a header of 48 bytes: "HFCC",
// length u32, xxhash64 of the blob, digest. It is written once, front to back,
// and never grows beyond its limit.
type segment struct {
	f     disk.File
	name  string
	limit int64
	end   int64
	items []*item
	buf   []byte
}

const (
	headSize   = 48
	segmentExt = ".seg"
)

var (
	headMagic = [4]byte{'H', 'F', 'C', 'C'}
	le        = binary.LittleEndian
	letters   = [...]string{small: "s", main: "m"}
)

func createSegment(fsys disk.FS, dir string, n uint64, q int, limit int64) (*segment, error) {
	name := path.Join(dir, fmt.Sprintf("%016x-%s%s", n, letters[q], segmentExt))
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	return &segment{f: f, name: name, limit: limit}, nil
}

// write appends a chunk with one call.
func (s *segment) write(d chunks.Digest, b chunks.Blob) error {
	s.buf = append(s.buf[:0], headMagic[:]...)
	s.buf = le.AppendUint32(s.buf, uint32(len(b)))
	s.buf = le.AppendUint64(s.buf, xxhash.Sum64(b))
	s.buf = append(s.buf, d[:]...)
	s.buf = append(s.buf, b...)
	if _, err := s.f.WriteAt(s.buf, s.end); err != nil {
		return err
	}
	s.end += int64(len(s.buf))
	return nil
}

// read returns the chunk at off and checks it.
func (s *segment) read(d chunks.Digest, off int64, n uint32, buf []byte) (chunks.Blob, error) {
	if cap(buf) < headSize+int(n) {
		buf = make([]byte, headSize+int(n))
	}
	b := buf[:headSize+int(n)]
	if _, err := s.f.ReadAt(b, off); err != nil {
		return nil, err
	}
	blob := b[headSize:]
	if [4]byte(b) != headMagic || le.Uint32(b[4:]) != n || chunks.Digest(b[16:48]) != d || le.Uint64(b[8:]) != xxhash.Sum64(blob) {
		return nil, errors.New("it is not what was written")
	}
	copy(b, blob)
	return chunks.Blob(b[:n]), nil
}

func (s *segment) remove(fsys disk.FS) error {
	err := fsys.Remove(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.f.Close())
}

// loadSegments finds what an earlier process left. What does not read as a
// segment, or no longer fits, is removed.
func (c *Cache) loadSegments() error {
	files, err := c.cfg.FS.ReadDir(c.cfg.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		stem, ok := strings.CutSuffix(f.Name(), segmentExt)
		if !ok {
			continue
		}
		var n uint64
		var letter string
		if _, err := fmt.Sscanf(stem, "%16x-%s", &n, &letter); err != nil {
			continue
		}
		q := small
		if letter == letters[main] {
			q = main
		}
		if err := c.loadSegment(path.Join(c.cfg.Dir, f.Name()), q); err != nil {
			return err
		}
		c.next = max(c.next, n)
	}
	for c.used > c.bound && c.evict() {
	}
	return nil
}

func (c *Cache) loadSegment(name string, q int) error {
	f, err := c.cfg.FS.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s := &segment{f: f, name: name}
	size, err := f.Size()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	head := make([]byte, headSize)
	for s.end+headSize <= size {
		if _, err := f.ReadAt(head, s.end); err != nil {
			break
		}
		n := int64(le.Uint32(head[4:]))
		if [4]byte(head) != headMagic || n > chunks.MaxBlob || s.end+headSize+n > size {
			break
		}
		it := &item{d: chunks.Digest(head[16:48]), seg: s, off: s.end, n: uint32(n)}
		if c.items[it.d] == nil {
			c.items[it.d] = it
			s.items = append(s.items, it)
		}
		s.end += headSize + n
	}
	s.limit = max(s.end, size) // it is not written to any more
	c.queues[q].segments = append(c.queues[q].segments, s)
	cost := s.limit + fileCost
	c.queues[q].bytes += cost
	c.used += cost
	return nil
}
