// Package partial keeps the beginnings of chunks that are on their way, so that
// a pull which is killed, stopped or cut off goes on in the midst of a chunk.
//
// They lie in files of their own, one for each chunk that is arriving, which are
// used again and again. Nothing waits for the disk: what a killed process has
// written is kept by the kernel, and after a power cut there may be anything in
// these files. That does no harm, since a chunk is checked as a whole before it
// counts, and fetched as a whole if what was continued turns out to be wrong.
//
// A chunk that was put into a datastore may still be in the memory of who writes
// packs. So its file is kept until the datastore says that it is durable, or
// until so much more was put that it must have been written.
package partial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const (
	least    = 256 << 10 // bytes of a chunk that is worth a file
	step     = 64 << 10  // bytes that are written at once
	maxSlots = 64        // files
	maxPut   = 32 << 20  // bytes of chunks that were put and may not be durable

	content = 4096 // offset in a file; before it is the head
)

// A Store has the beginnings of chunks of one job. A nil Store keeps nothing.
type Store struct {
	fs  disk.FS
	dir string

	mu      sync.Mutex
	slots   []*Part
	parts   map[chunks.Digest]*Part
	made    bool // the directory is there
	failed  bool // the disk is full, or broken: nothing more is kept
	put     int  // bytes of parts that are put
	counter uint64
}

// The states of a part.
const (
	free    = iota
	left    // of a stream or a run that ended: anybody may go on
	busy    // a stream brings the rest
	arrived // all of it is here
	put     // and in the datastore
)

// A Part is a chunk that is arriving. One stream has it, until it leaves it.
type Part struct {
	s    *Store
	file disk.File

	digest chunks.Digest
	size   int
	have   int

	state   int    // the rest is protected by the lock of the store
	dropped bool   // while it is busy: nobody wants it any more
	order   uint64 // of put
}

// Open returns what earlier runs have left in a directory, which is made when
// something is kept.
func Open(fsys disk.FS, dir string) (*Store, error) {
	s := &Store{fs: fsys, dir: dir, parts: map[chunks.Digest]*Part{}}
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read beginnings of chunks: %w", err)
	}
	s.made = true
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), suffix) || len(s.slots) == maxSlots {
			continue
		}
		f, err := fsys.OpenFile(path.Join(dir, e.Name()), os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read beginnings of chunks: %w", err), s.Close())
		}
		p := &Part{s: s, file: f}
		s.slots = append(s.slots, p)
		if p.read() && s.parts[p.digest] == nil {
			p.state = left
			s.parts[p.digest] = p
		}
	}
	return s, nil
}

const suffix = ".part"

// Take returns what is here of a chunk for somebody who brings the rest; nil if
// that is nothing, or somebody does already.
func (s *Store) Take(d chunks.Digest) *Part {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[d]
	if p == nil || p.state != left {
		return nil
	}
	p.state = busy
	return p
}

// Begin returns where a chunk may arrive of which the blob has so many bytes; nil
// if its beginning is not to be kept.
func (s *Store) Begin(d chunks.Digest, size int) *Part {
	if s == nil || size < least || size > chunks.MaxBlob {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed || s.parts[d] != nil {
		return nil
	}
	p, err := s.slot()
	if err != nil {
		s.failed = true
		return nil
	}
	if p == nil {
		return nil
	}
	p.digest, p.size, p.have, p.state = d, size, 0, busy
	s.parts[d] = p
	return p
}

// slot returns a part that is free, if need be a new one, or one that is needed
// least: whose chunk was put longest ago, or that nobody has gone on with.
func (s *Store) slot() (*Part, error) {
	var old *Part
	for _, p := range s.slots {
		switch {
		case p.state == free:
			return p, nil
		case p.state == put && (old == nil || old.state == left || p.order < old.order), p.state == left && old == nil:
			old = p
		}
	}
	if len(s.slots) == maxSlots {
		if old != nil {
			s.release(old)
		}
		return old, nil
	}
	if !s.made {
		for _, dir := range []string{path.Dir(s.dir), s.dir} {
			if err := s.fs.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		s.made = true
	}
	f, err := s.fs.OpenFile(path.Join(s.dir, fmt.Sprintf("%02d%s", len(s.slots), suffix)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Part{s: s, file: f}
	s.slots = append(s.slots, p)
	return p, nil
}

// release makes a part free.
func (s *Store) release(p *Part) {
	if p.state == put {
		s.put -= p.size
	}
	if s.parts[p.digest] == p {
		delete(s.parts, p.digest)
	}
	p.state, p.dropped = free, false
}

// Put says that a chunk is in the datastore, though perhaps not durable yet.
func (s *Store) Put(d chunks.Digest) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[d]
	if p == nil {
		return
	}
	if p.state != arrived { // another stream has brought it
		s.drop(p)
		return
	}
	s.counter++
	p.state, p.order = put, s.counter
	for s.put += p.size; s.put > maxPut; {
		oldest := p
		for _, q := range s.slots {
			if q.state == put && q.order < oldest.order {
				oldest = q
			}
		}
		s.release(oldest)
	}
}

// Drop says that what is here of a chunk is of no use.
func (s *Store) Drop(d chunks.Digest) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[d]; p != nil {
		s.drop(p)
	}
}

func (s *Store) drop(p *Part) {
	if p.state == busy {
		p.dropped = true
		delete(s.parts, p.digest)
		return
	}
	s.release(p)
}

// Committing is called before the datastore makes durable what was put; what it
// returns, when that has been done.
func (s *Store) Committing() (done func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.counter
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.slots {
			if p.state == put && p.order <= until {
				s.release(p)
			}
		}
	}
}

// Close keeps what is here for the next run. No stream may have a part any more.
func (s *Store) Close() (err error) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.slots {
		err = errors.Join(err, p.file.Close())
	}
	s.slots, s.failed = nil, true
	clear(s.parts)
	return err
}

// Clear removes what is here: the job needs none of it. It closes the store.
func (s *Store) Clear() error {
	if s == nil {
		return nil
	}
	var names []string
	s.mu.Lock()
	for _, p := range s.slots {
		names = append(names, p.file.Name())
	}
	made := s.made
	s.mu.Unlock()
	err := s.Close()
	for _, name := range names {
		err = errors.Join(err, s.fs.Remove(name))
	}
	if made {
		err = errors.Join(err, s.fs.Remove(s.dir))
	}
	return err
}

// Have is how many bytes of the blob are here, and Size how many it has.
func (p *Part) Have() int { return p.have }

// Size is how many bytes the blob has.
func (p *Part) Size() int { return p.size }

// Load reads what is here into the beginning of b. If that fails b has anything
// in it, and the chunk turns out to be wrong.
func (p *Part) Load(b []byte) {
	_, _ = p.file.ReadAt(b[:p.have], content)
}

// Filled says that so many bytes have arrived of the blob, which are in b.
func (p *Part) Filled(b []byte, n int) {
	if p == nil || n < p.size && n-p.have < step {
		return
	}
	p.s.mu.Lock()
	stop := p.s.failed || p.dropped
	p.s.mu.Unlock()
	if stop {
		return
	}
	var err error
	if p.have == 0 {
		err = p.note(0) // what is there is of another chunk
	}
	if err == nil && n > p.have {
		_, err = p.file.WriteAt(b[p.have:n], content+int64(p.have))
	}
	if err == nil {
		err = p.note(n)
	}
	if err != nil {
		p.s.mu.Lock()
		p.s.failed = true
		p.s.mu.Unlock()
		return
	}
	p.have = n
}

// Leave gives the part back. What of it is here, somebody else may go on with; if
// all of it is, it waits for Put or Drop.
func (p *Part) Leave(whole bool) {
	if p == nil {
		return
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	switch {
	case p.state != busy: // the store is closed
	case p.dropped || p.have == 0 && !whole:
		p.s.release(p)
	case whole:
		p.state = arrived
	default:
		p.state = left
	}
}

// The head of a file: magic, digest, size, have, CRC-32C of all before.
const (
	magic    = "HFPART01"
	headSize = len(magic) + chunks.DigestSize + 4 + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// note writes the head: so many bytes behind it are good.
func (p *Part) note(have int) error {
	b := append(make([]byte, 0, headSize), magic...)
	b = append(b, p.digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.size))
	b = binary.LittleEndian.AppendUint32(b, uint32(have))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := p.file.WriteAt(b, 0)
	return err
}

// read reads the head, and reports whether there is anything to go on with.
func (p *Part) read() bool {
	b := make([]byte, headSize)
	if _, err := p.file.ReadAt(b, 0); err != nil {
		return false
	}
	d, size, have, ok := parseHead(b)
	long, err := p.file.Size()
	if !ok || have == 0 || err != nil || long < content+int64(have) {
		return false
	}
	p.digest, p.size, p.have = d, size, have
	return true
}

func parseHead(b []byte) (d chunks.Digest, size, have int, ok bool) {
	if len(b) != headSize || string(b[:len(magic)]) != magic || binary.LittleEndian.Uint32(b[headSize-4:]) != crc32.Checksum(b[:headSize-4], castagnoli) {
		return d, 0, 0, false
	}
	n := copy(d[:], b[len(magic):]) + len(magic)
	size, have = int(binary.LittleEndian.Uint32(b[n:])), int(binary.LittleEndian.Uint32(b[n+4:]))
	return d, size, have, size >= least && size <= chunks.MaxBlob && have <= size
}
