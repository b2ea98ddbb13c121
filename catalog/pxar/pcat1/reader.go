package pcat1

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// readBlock is what is read of a table at once, in bytes.
const readBlock = 64 << 10

// A Reader lists the entries of a catalog. It keeps nothing in memory and is
// safe for concurrent use if the reader below is.
type Reader struct {
	r    io.ReaderAt
	size int64 // without the offset at the end
	root int64 // where the root's table stands
}

// Open opens the catalog of size bytes in r. Bytes that are no catalog
// fail with [ErrFormat].
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	if size < int64(len(magic))+8 {
		return nil, fmt.Errorf("open catalog: %w", malformed(0, "it has only %d bytes", size))
	}
	var first, last [8]byte
	if err := readAt(r, first[:], 0); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if string(first[:]) != magic {
		return nil, fmt.Errorf("open catalog: %w", malformed(0, "it begins with %x", first))
	}
	if err := readAt(r, last[:], size-8); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	root := binary.LittleEndian.Uint64(last[:])
	if root < 8 || root >= uint64(size-8) {
		return nil, fmt.Errorf("open catalog: %w", malformed(size-8, "the root table should be at %d", root))
	}
	return &Reader{r: r, size: size - 8, root: int64(root)}, nil
}

// Root returns the directory that holds the archives.
func (c *Reader) Root() Entry {
	return Entry{Type: Dir, table: c.root, floor: int64(len(magic)) - 1, limit: c.size}
}

// Children returns the entries of a directory in the order of the catalog.
// Whoever descends into all directories comes to an end: tables stand behind
// those of what they hold, and no two share one.
func (c *Reader) Children(dir Entry) ([]Entry, error) {
	all, err := c.children(dir)
	if err != nil {
		return nil, fmt.Errorf("list %q in catalog: %w", dir.Name, err)
	}
	return all, nil
}

// Find returns the entry at path, whose components are separated by slashes;
// the first is the name of an archive. It fails with fs.ErrNotExist if there
// is none.
func (c *Reader) Find(path string) (Entry, error) {
	e := c.Root()
	for _, name := range strings.FieldsFunc(path, isSlash) {
		all, err := c.children(e)
		if err != nil {
			return Entry{}, fmt.Errorf("find %q in catalog: %w", path, err)
		}
		i := slices.IndexFunc(all, func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return Entry{}, fmt.Errorf("find %q in catalog: %w", path, fs.ErrNotExist)
		}
		e = all[i]
	}
	return e, nil
}

func isSlash(r rune) bool { return r == '/' }

func (c *Reader) children(dir Entry) ([]Entry, error) {
	if !dir.IsDir() {
		return nil, fmt.Errorf("it is no directory: %w", fs.ErrNotExist)
	}
	t, err := c.open(dir)
	if err != nil {
		return nil, err
	}
	count, err := t.number()
	if err != nil {
		return nil, err
	}
	var all []Entry
	for range count {
		e, err := t.entry()
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if left := t.left(); left != 0 {
		return nil, malformed(dir.table, "%d bytes behind the entries of a table", left)
	}
	return all, divide(all, dir)
}

// divide gives each directory its part of the space below the table.
func divide(all []Entry, dir Entry) error {
	var dirs []*Entry
	for i := range all {
		if all[i].IsDir() {
			dirs = append(dirs, &all[i])
		}
	}
	slices.SortFunc(dirs, func(a, b *Entry) int { return cmp.Compare(a.table, b.table) })
	floor := dir.floor
	for i, d := range dirs {
		if d.table <= floor {
			return malformed(dir.table, "the table of directory %q is another's", d.Name)
		}
		d.floor, d.limit = floor, dir.table
		if i+1 < len(dirs) {
			d.limit = dirs[i+1].table
		}
		floor = d.table
	}
	return nil
}

func readAt(r io.ReaderAt, p []byte, at int64) error {
	if n, err := r.ReadAt(p, at); n < len(p) {
		return readError(at+int64(n), err)
	}
	return nil
}

func readError(at int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return malformed(at, "it ends early: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read catalog at offset %d: %w", at, err)
}

// A tableReader is a table being read.
type tableReader struct {
	at      int64
	section *io.SectionReader
	buf     *bufio.Reader
}

// open reads the length of the table of dir.
func (c *Reader) open(dir Entry) (*tableReader, error) {
	head := make([]byte, min(maxVarint, dir.limit-dir.table))
	if err := readAt(c.r, head, dir.table); err != nil {
		return nil, err
	}
	in := strings.NewReader(string(head))
	length, err := readVarint(in)
	if err != nil {
		return nil, malformed(dir.table, "length of a table: %v", err)
	}
	start := dir.table + int64(len(head)-in.Len())
	if length > uint64(dir.limit-start) {
		return nil, malformed(dir.table, "a table of %d bytes goes beyond %d", length, dir.limit)
	}
	t := &tableReader{at: dir.table, section: io.NewSectionReader(c.r, start, int64(length))}
	t.buf = bufio.NewReaderSize(t.section, int(min(max(length, 16), readBlock)))
	return t, nil
}

// left returns how many bytes of the table were not parsed.
func (t *tableReader) left() int64 {
	read, _ := t.section.Seek(0, io.SeekCurrent)
	return t.section.Size() - read + int64(t.buf.Buffered())
}

// number reads an unsigned number.
func (t *tableReader) number() (uint64, error) {
	v, err := readVarint(t.buf)
	return v, t.failed(err)
}

func (t *tableReader) failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errVarint), err == io.EOF, err == io.ErrUnexpectedEOF:
		return malformed(t.at, "entries of a table: %v", err)
	}
	return readError(t.at, err)
}

func (t *tableReader) entry() (e Entry, err error) {
	c, err := t.buf.ReadByte()
	if err != nil {
		return e, t.failed(err)
	}
	e.Type = Type(c)
	if e.Name, err = t.name(); err != nil {
		return e, err
	}
	switch {
	case e.Type == Dir:
		e.table, err = t.distance()
	case e.Type == File:
		if e.Size, err = t.number(); err == nil {
			e.Mtime, err = readSvarint(t.buf)
			err = t.failed(err)
		}
	case !e.Type.known():
		err = malformed(t.at, "entry %q has the unknown type %q", e.Name, c)
	}
	return e, err
}

func (t *tableReader) name() (string, error) {
	n, err := t.number()
	if err != nil {
		return "", err
	}
	if n > maxName {
		return "", malformed(t.at, "a name has %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(t.buf, b); err != nil {
		return "", t.failed(err)
	}
	if err := checkName(string(b)); err != nil {
		return "", malformed(t.at, "%v", err)
	}
	return string(b), nil
}

// distance reads how far in front of this table another stands.
func (t *tableReader) distance() (int64, error) {
	v, err := t.number()
	if err != nil {
		return 0, err
	}
	if v == 0 || v > uint64(t.at)-uint64(len(magic)) {
		return 0, malformed(t.at, "a directory's table should be %d bytes in front", v)
	}
	return t.at - int64(v), nil
}
