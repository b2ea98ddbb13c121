package chunks

import (
	"runtime"
	"sync"
	"time"
)

const (
	// maxShelf is how many bytes a shelf keeps that nobody uses.
	maxShelf = 64 << 20

	// shelfTime is how long it keeps them.
	shelfTime = 10 * time.Second
)

// A shelf keeps buffers that were given back. A sync.Pool would do, if the
// garbage collector did not empty it: where buffers are most of the memory the
// collector runs for every few of them, and what it takes is allocated anew,
// which means to clear it, and a page fault for each 4 KiB. On a shelf buffers
// stay until they were not used for some time.
type shelf struct {
	mu sync.Mutex

	kept    [bufferClasses][]shelved // last given back last
	bytes   int64
	watched bool // trim will be called
}

type shelved struct {
	b     *Buffer
	since time.Time
}

// take returns the buffer that was given back last, whose memory is most likely
// in the processor's cache, or nil.
func (s *shelf) take(class int) *Buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.kept[class]
	if len(all) == 0 {
		return nil
	}
	b := all[len(all)-1].b
	all[len(all)-1] = shelved{}
	s.kept[class] = all[:len(all)-1]
	s.bytes -= int64(cap(b.Bytes))
	return b
}

// put keeps a buffer, if there is room.
func (s *shelf) put(class int, b *Buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+int64(cap(b.Bytes)) > maxShelf {
		return
	}
	s.kept[class] = append(s.kept[class], shelved{b, time.Now()})
	s.bytes += int64(cap(b.Bytes))
	s.watch()
}

// watch has trim called when the garbage collector has run, which it does every
// two minutes where nothing else happens. The caller holds mu.
func (s *shelf) watch() {
	if s.watched {
		return
	}
	s.watched = true
	canary := new([64]byte) // which nobody needs
	runtime.AddCleanup(canary, func(s *shelf) { s.trim(time.Now().Add(-shelfTime)) }, s)
}

// trim leaves buffers to the garbage collector that were given back before a
// time, and not used since.
func (s *shelf) trim(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for class, all := range s.kept {
		old := 0
		for old < len(all) && all[old].since.Before(before) {
			s.bytes -= int64(cap(all[old].b.Bytes))
			old++
		}
		s.kept[class] = append([]shelved(nil), all[old:]...)
	}
	if s.watched = false; s.bytes > 0 {
		s.watch()
	}
}
