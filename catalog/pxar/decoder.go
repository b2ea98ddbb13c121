package pxar

import (
	"fmt"
	"io"
	"math"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

const (
	// maxDepth bounds how deep directories may lie. Official clients end at
	// this many entries on the way down.
	maxDepth = 1 << 20

	// maxPath bounds the names on the way down together, in bytes.
	maxPath = 64 << 20
)

// A Decoder reads an archive in one pass. It needs memory for the names of the
// directories it is in and for the attributes of one entry, within fixed
// limits. After an error it is of no more use.
type Decoder struct {
	in      *source
	payload *source // of a split archive, or nil
	scan    scanner
	dirs    []decoderDir
	path    int   // length of the names in dirs
	rest    int64 // of the content in in that was not read
	current *payloadReader
	prelude []byte
	err     error // what Next returns from now on
}

// A decoderDir is a directory that was entered.
type decoderDir struct {
	folder   *folder
	position Position
	entry    int64 // of the item behind the name
}

// NewDecoder returns a decoder of r, an archive whose contents are in it. If r
// can seek (io.Seeker) or discard (a method Discard(int64) (int64, error)),
// contents that are not wanted are not read.
func NewDecoder(r io.Reader) *Decoder {
	return NewSplitDecoder(r, nil)
}

// NewSplitDecoder returns a decoder of a split archive: metadata from r and
// contents from payload, which may be nil; then contents cannot be read.
func NewSplitDecoder(r, payload io.Reader) *Decoder {
	d := &Decoder{in: newSource(r)}
	if payload != nil {
		d.payload = newSource(payload)
	}
	d.scan.reset(d.in, math.MaxInt64)
	return d
}

// Prelude returns what the writer of a version 2 archive put in front of it,
// usually exclude patterns as JSON; nil if there is nothing. It is known after
// the first call of Next.
func (d *Decoder) Prelude() []byte { return d.prelude }

// Offset returns how many bytes of the archive were read or skipped; of a
// split archive, those of the metadata.
func (d *Decoder) Offset() int64 { return d.in.offset() }

// Next returns the next entry, the root first. Each directory is followed by
// what is in it and then by an entry of the kind [DirEnd] that has the
// directory's name, position and depth. Behind that of the root Next fails
// with io.EOF. Errors of bytes that are no archive match [ErrFormat].
func (d *Decoder) Next() (*Entry, error) {
	if d.err != nil {
		return nil, d.err
	}
	e, err := d.next()
	if err != nil {
		d.fail(err)
		return nil, d.err
	}
	return e, nil
}

func (d *Decoder) fail(err error) {
	d.err = err
	if err != io.EOF {
		d.err = fmt.Errorf("read archive: %w", err)
	}
}

func (d *Decoder) next() (*Entry, error) {
	if err := d.skipContent(); err != nil {
		return nil, err
	}
	if len(d.dirs) == 0 {
		return d.root()
	}
	h, err := d.scan.next()
	if err != nil {
		return nil, err
	}
	switch h.typ {
	case itemFilename:
		return d.entry(h)
	case itemGoodbye:
		return d.leave(h)
	}
	return nil, malformed(h.at, "%v instead of a name or goodbye table", h.typ)
}

// root reads the head of the archive, or finds that it is over.
func (d *Decoder) root() (*Entry, error) {
	if d.in.offset() > 0 {
		return nil, io.EOF
	}
	prelude, err := d.scan.version()
	if err != nil {
		return nil, noEOF(err)
	}
	d.prelude = prelude
	start := d.in.offset()
	if d.scan.have {
		start = d.scan.head.at
	}
	e := &Entry{}
	if err := d.scan.node(e); err != nil {
		return nil, err
	}
	if e.Kind != Dir {
		return nil, malformed(start, "the root is a %v", e.Kind)
	}
	return e, d.enter(e, start)
}

// entry reads the entry whose name h announces.
func (d *Decoder) entry(h header) (*Entry, error) {
	name, err := d.scan.name(h)
	if err != nil {
		return nil, err
	}
	e := &Entry{Name: name, Position: Position(h.at), Depth: len(d.dirs), parent: d.dirs[len(d.dirs)-1].folder}
	start := d.in.offset()
	if err := d.scan.node(e); err != nil {
		return nil, err
	}
	switch e.Kind {
	case Dir:
		return e, d.enter(e, start)
	case File:
		if !e.content.split {
			d.rest = e.Size
		}
		d.current = &payloadReader{d: d, left: e.Size, content: e.content}
	}
	return e, nil
}

func (d *Decoder) enter(e *Entry, start int64) error {
	if len(d.dirs) >= maxDepth || d.path+len(e.Name) > maxPath {
		return malformed(start, "directories are %d deep, which is too much", len(d.dirs))
	}
	d.path += len(e.Name)
	dir := decoderDir{position: e.Position, entry: start}
	if len(d.dirs) > 0 {
		dir.folder = &folder{name: e.Name, parent: e.parent}
	}
	d.dirs = append(d.dirs, dir)
	return nil
}

// leave passes over a goodbye table, of which only the tail is looked at.
func (d *Decoder) leave(h header) (*Entry, error) {
	if h.length%goodbye.RecordSize != 0 {
		return nil, malformed(h.at, "goodbye table of %d bytes", h.length)
	}
	if err := d.in.skip(h.length - goodbye.RecordSize); err != nil {
		return nil, noEOF(err)
	}
	var raw [goodbye.RecordSize]byte
	if err := d.scan.fill(raw[:]); err != nil {
		return nil, err
	}
	dir := d.dirs[len(d.dirs)-1]
	tail := goodbye.ParseRecord(raw[:])
	start := h.at - int64(tail.Offset)
	isRoot := dir.folder == nil && start == 0
	if tail.Hash != goodbye.TailMark || tail.Size != uint64(headerSize+h.length) || start != dir.entry && !isRoot {
		return nil, malformed(h.at, "the tail of the goodbye table does not fit its directory")
	}
	d.dirs[len(d.dirs)-1] = decoderDir{}
	d.dirs = d.dirs[:len(d.dirs)-1]
	e := &Entry{Kind: DirEnd, Depth: len(d.dirs), Position: dir.position}
	if dir.folder != nil {
		e.Name, e.parent = dir.folder.name, dir.folder.parent
	}
	d.path -= len(e.Name)
	return e, nil
}

// Content returns a reader of the content of the file that Next returned last.
// It is valid until the next call of Next, and empty for other kinds.
func (d *Decoder) Content() io.Reader {
	if d.current == nil {
		return eofReader{}
	}
	return d.current
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// skipContent moves to the item behind the content of the current file.
func (d *Decoder) skipContent() error {
	d.current = nil
	n := d.rest
	d.rest = 0
	return noEOF(d.in.skip(n))
}
