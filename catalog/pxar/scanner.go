package pxar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"
)

// A cursor is a place in a stream from which a [scanner] reads.
type cursor interface {
	io.Reader
	offset() int64 // of the next byte
}

// A scanner reads items in their order. It looks one header ahead, because the
// end of attributes shows only in what follows them.
type scanner struct {
	in   cursor
	end  int64 // no item goes beyond it
	head header
	have bool // head was read but not taken
	raw  [headerSize]byte
	buf  []byte // of contents; reused
}

func (s *scanner) reset(in cursor, end int64) {
	s.in, s.end, s.have = in, end, false
}

// peek returns the header of the next item. It fails with io.EOF exactly at
// the end.
func (s *scanner) peek() (header, error) {
	if s.have {
		return s.head, nil
	}
	at := s.in.offset()
	if at >= s.end {
		return header{}, io.EOF
	}
	if err := s.fill(s.raw[:]); err != nil {
		return header{}, err
	}
	h, err := parseHeader(&s.raw, at)
	if err != nil {
		return header{}, err
	}
	if h.length > s.end-h.start() {
		return header{}, malformed(at, "%v of %d bytes goes beyond the end at %d", h.typ, h.length, s.end)
	}
	s.head, s.have = h, true
	return h, nil
}

// next takes the header of the next item.
func (s *scanner) next() (header, error) {
	h, err := s.peek()
	s.have = false
	return h, noEOF(err)
}

// expect takes the header of the next item, which must be of type t.
func (s *scanner) expect(t itemType) (header, error) {
	h, err := s.next()
	if err == nil && h.typ != t {
		err = malformed(h.at, "%v instead of %v", h.typ, t)
	}
	return h, err
}

// fill reads all of p.
func (s *scanner) fill(p []byte) error {
	if int64(len(p)) > s.end-s.in.offset() {
		return errTruncated
	}
	_, err := io.ReadFull(s.in, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

// content reads the content of the item that was taken. It is valid until the
// next call. Memory is allocated as bytes arrive, not as a header claims.
func (s *scanner) content(h header) ([]byte, error) {
	const step = 64 << 10
	s.buf = s.buf[:0]
	for left := h.length; left > 0; {
		n := int(min(left, step))
		s.buf = append(s.buf, make([]byte, n)...)
		if err := s.fill(s.buf[len(s.buf)-n:]); err != nil {
			return nil, err
		}
		left -= int64(n)
	}
	return s.buf, nil
}

// text reads a content that ends with the only NUL in it.
func (s *scanner) text(h header) (string, error) {
	b, err := s.content(h)
	if err != nil {
		return "", err
	}
	return cutNUL(h, b)
}

func cutNUL(h header, b []byte) (string, error) {
	if i := bytes.IndexByte(b, 0); i != len(b)-1 {
		return "", malformed(h.at, "%v does not end with its only NUL", h.typ)
	}
	return string(b[:len(b)-1]), nil
}

// words reads a content of at most four little-endian words.
func (s *scanner) words(h header) (w [4]uint64, err error) {
	b, err := s.content(h)
	if err != nil {
		return w, err
	}
	for i := range len(b) / 8 {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w, nil
}

// version skips the items that may stand in front of the root, and returns
// the prelude, or nil.
func (s *scanner) version() (prelude []byte, err error) {
	h, err := s.peek()
	if err != nil || h.typ != itemVersion {
		return nil, err
	}
	s.have = false
	w, err := s.words(h)
	if err != nil {
		return nil, err
	}
	if w[0] != 1 && w[0] != 2 {
		return nil, malformed(h.at, "version is %d, want 1 or 2", w[0])
	}
	if h, err = s.peek(); err != nil || h.typ != itemPrelude {
		return nil, err
	}
	s.have = false
	b, err := s.content(h)
	return append([]byte{}, b...), err
}

// name reads the name of an entry, whose header was taken.
func (s *scanner) name(h header) (string, error) {
	name, err := s.text(h)
	if err != nil {
		return "", err
	}
	if err := CheckName(name); err != nil {
		return "", malformed(h.at, "%v", err)
	}
	return name, nil
}

// node reads what follows the name of an entry into e: everything up to the
// content of a file or directory.
func (s *scanner) node(e *Entry) error {
	h, err := s.next()
	if err != nil {
		return err
	}
	switch h.typ {
	case itemHardlink:
		return s.hardlink(h, e)
	case itemEntry, itemEntryV1:
	default:
		return malformed(h.at, "%v where an entry begins", h.typ)
	}
	if err := s.stat(h, &e.Metadata); err != nil {
		return err
	}
	if e.Kind = kindOf(e.Mode); e.Kind == 0 {
		return malformed(h.at, "mode %#o is of no kind of entry", e.Mode)
	}
	if err := s.attributes(&e.Metadata); err != nil {
		return err
	}
	return s.body(e)
}

func (s *scanner) hardlink(h header, e *Entry) error {
	b, err := s.content(h)
	if err != nil {
		return err
	}
	distance := binary.LittleEndian.Uint64(b)
	target, err := cutNUL(h, b[8:])
	if err != nil {
		return err
	}
	if err := checkTarget(target); err != nil {
		return malformed(h.at, "%v", err)
	}
	if distance == 0 || distance >= uint64(e.Position) {
		return malformed(h.at, "hard link goes %d bytes back from %d", distance, e.Position)
	}
	e.Kind, e.Target, e.Link = Hardlink, target, e.Position-Position(distance)
	return nil
}

// stat reads an entry item, the old one too (§2.1).
func (s *scanner) stat(h header, m *Metadata) error {
	b, err := s.content(h)
	if err != nil {
		return err
	}
	mode := binary.LittleEndian.Uint64(b)
	if mode > math.MaxUint32 {
		return malformed(h.at, "mode is %#o", mode)
	}
	m.Mode = uint32(mode)
	m.Flags = binary.LittleEndian.Uint64(b[8:])
	m.UID = binary.LittleEndian.Uint32(b[16:])
	m.GID = binary.LittleEndian.Uint32(b[20:])
	time64 := binary.LittleEndian.Uint64(b[24:])
	if h.typ == itemEntryV1 {
		m.Mtime = Timespec{Sec: int64(time64 / uint64(time.Second)), Nsec: uint32(time64 % uint64(time.Second))}
		return nil
	}
	m.Mtime = Timespec{Sec: int64(time64), Nsec: binary.LittleEndian.Uint32(b[32:])}
	if m.Mtime.Nsec >= uint32(time.Second) {
		return malformed(h.at, "mtime has %d nanoseconds", m.Mtime.Nsec)
	}
	return nil
}

// body reads what makes an entry of its kind.
func (s *scanner) body(e *Entry) error {
	switch e.Kind {
	case File:
		return s.file(e)
	case Symlink:
		h, err := s.expect(itemSymlink)
		if err == nil {
			e.Target, err = s.text(h)
		}
		return err
	case BlockDevice, CharDevice:
		h, err := s.expect(itemDevice)
		if err != nil {
			return err
		}
		w, err := s.words(h)
		e.Device = Device{Major: w[0], Minor: w[1]}
		return err
	}
	return nil
}

func (s *scanner) file(e *Entry) error {
	h, err := s.next()
	if err != nil {
		return err
	}
	switch h.typ {
	case itemPayload:
		e.Size, e.content = h.length, content{at: h.start()}
		return nil
	case itemPayloadRef:
		w, err := s.words(h)
		if err != nil {
			return err
		}
		if w[0] > math.MaxInt64-headerSize || w[1] > math.MaxInt64-headerSize-w[0] {
			return malformed(h.at, "payload of %d bytes at offset %d", w[1], w[0])
		}
		e.Size, e.content = int64(w[1]), content{at: int64(w[0]), split: true}
		return nil
	}
	return malformed(h.at, "%v instead of a payload", h.typ)
}
