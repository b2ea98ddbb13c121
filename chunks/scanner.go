package chunks

import (
	"fmt"
	"math/bits"
)

// Averages in bytes that archives are cut with.
const (
	ArchiveAverage = 4 << 20   // payload of archives
	CatalogAverage = 512 << 10 // catalogs

	minAverage = 1 << 10 // the window of 64 bytes has to fit the minimum
	maxAverage = 4 << 20 // the maximum has to fit a blob
)

// window is how many bytes decide about a cut, which follows the last of them.
const window = 64

// A Scanner finds where to cut a stream into chunks by its content, exactly
// where proxmox-backup-client does, so that both find the same chunks (PBS
// protocol notes §5.9; the rolling hash is Cohen's, known as buzhash). It keeps
// no data: whoever feeds it does. The cuts do not depend on how the stream is
// divided among calls.
type Scanner struct {
	min, max int
	mask     uint32

	size int          // of the chunk so far
	hash uint32       // of its last 64 bytes
	last [window]byte // these bytes; byte i of the chunk is at i%64
}

// NewScanner returns a scanner whose chunks have avg/4 to 4·avg bytes and about
// avg on average, a power of two from 1 KiB to 4 MiB.
func NewScanner(avg int) (*Scanner, error) {
	if avg < minAverage || avg > maxAverage || bits.OnesCount(uint(avg)) != 1 {
		return nil, fmt.Errorf("new splitter: the average chunk size is %d, want a power of two from %d to %d", avg, minAverage, maxAverage)
	}
	return &Scanner{min: avg / 4, max: 4 * avg, mask: uint32(2*avg - 1)}, nil
}

// Max returns the most bytes that a chunk can have.
func (s *Scanner) Max() int { return s.max }

// Scan looks for the end of the chunk in data, which continues the stream. It
// returns how many bytes of data still belong to the chunk, and what follows
// must be passed again; or 0 if all of them do and the chunk goes on.
func (s *Scanner) Scan(data []byte) int {
	// The hash depends on the last 64 bytes only, and no chunk ends before
	// its minimum: what lies before that window is not even looked at.
	pos := min(max(s.min-window-s.size, 0), len(data))
	s.size += pos
	pos += s.fill(data[pos:])
	if s.size == s.min && s.isCut(s.hash) {
		s.reset()
		return pos
	}
	cut := s.roll(data[pos:min(len(data), pos+s.max-s.size)])
	if cut > 0 {
		s.reset()
		return pos + cut
	}
	return 0
}

// fill takes the bytes of the first window of the chunk, the one that ends at
// its minimum, and returns how many there were.
func (s *Scanner) fill(data []byte) int {
	data = data[:min(max(s.min-s.size, 0), len(data))]
	for _, b := range data {
		s.hash = bits.RotateLeft32(s.hash, 1) ^ buzhash[b]
		s.last[s.size%window] = b
		s.size++
	}
	return len(data)
}

// roll takes bytes after the minimum and returns where the chunk ends, or 0.
// They do not go beyond its maximum.
func (s *Scanner) roll(data []byte) int {
	// The bytes that leave the window: first those of earlier calls, then
	// data's own.
	early := min(len(data), window)
	var leave [window]byte
	n := copy(leave[:], s.last[s.size%window:])
	copy(leave[n:], s.last[:])
	cut := s.find(data[:early], leave[:early])
	if cut == 0 && len(data) > window {
		if cut = s.find(data[window:], data[:len(data)-window]); cut > 0 {
			cut += window
		}
	}
	if cut > 0 {
		return cut
	}
	s.size += len(data)
	tail := data[len(data)-early:]
	for i, b := range tail {
		s.last[(s.size-len(tail)+i)%window] = b
	}
	if s.size == s.max {
		return len(data)
	}
	return 0
}

// find rolls the hash over enter, the byte of the same place in leave going
// out of the window, and returns the place after the first cut, or 0.
func (s *Scanner) find(enter, leave []byte) int {
	h, mask := s.hash, s.mask
	limit := mask - 2
	leave = leave[:len(enter)]
	for i, b := range enter {
		// The brackets take the second exclusive or out of the chain of
		// dependent operations: half as fast again.
		h = bits.RotateLeft32(h, 1) ^ (buzhash[leave[i]] ^ buzhash[b])
		if h&mask >= limit {
			return i + 1
		}
	}
	s.hash = h
	return 0
}

func (s *Scanner) isCut(hash uint32) bool { return hash&s.mask >= s.mask-2 }

func (s *Scanner) reset() { s.size, s.hash = 0, 0 }
