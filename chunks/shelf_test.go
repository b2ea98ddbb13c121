package chunks

import (
	"runtime"
	"testing"
	"time"
)

// What is given back outlives the garbage collector, and the last comes first.
func TestShelfKeepsBuffersFromTheCollector(t *testing.T) {
	var s shelf
	first, last := &Buffer{Bytes: make([]byte, 0, 1<<20)}, &Buffer{Bytes: make([]byte, 0, 1<<20)}
	s.put(3, first)
	s.put(3, last)
	for range 3 {
		runtime.GC()
	}
	if s.take(2) != nil || s.take(3) != last || s.take(3) != first || s.take(3) != nil || s.bytes != 0 {
		t.Errorf("buffers were lost, or come in another order; %d bytes are left", s.bytes)
	}
}

func TestShelfIsBounded(t *testing.T) {
	var s shelf
	for range maxShelf>>20 + 5 {
		s.put(3, &Buffer{Bytes: make([]byte, 0, 1<<20)})
	}
	if s.bytes != maxShelf || len(s.kept[3]) != maxShelf>>20 {
		t.Errorf("%d buffers of %d bytes are kept", len(s.kept[3]), s.bytes)
	}
}

// What nobody used for long goes, and what was just given back stays.
func TestShelfForgetsWhatIsNotUsed(t *testing.T) {
	var s shelf
	s.put(0, &Buffer{Bytes: make([]byte, 0, 100)})
	s.put(1, &Buffer{Bytes: make([]byte, 0, 200)})
	s.put(1, &Buffer{Bytes: make([]byte, 0, 400)})
	s.kept[0][0].since = s.kept[0][0].since.Add(-time.Hour)
	s.kept[1][0].since = s.kept[1][0].since.Add(-time.Hour)
	s.trim(time.Now().Add(-time.Minute))
	if s.bytes != 400 || len(s.kept[0]) != 0 || len(s.kept[1]) != 1 || !s.watched {
		t.Errorf("%d bytes are left, watched: %v", s.bytes, s.watched)
	}
	s.trim(time.Now().Add(time.Minute))
	if s.bytes != 0 || s.watched {
		t.Errorf("%d bytes are left, watched: %v", s.bytes, s.watched)
	}
}

// The collector's runs have a shelf trimmed.
func TestShelfIsTrimmedAfterCollections(t *testing.T) {
	var s shelf
	s.put(0, &Buffer{Bytes: make([]byte, 0, 100)})
	s.mu.Lock()
	s.kept[0][0].since = s.kept[0][0].since.Add(-time.Hour)
	s.mu.Unlock()
	for {
		runtime.GC()
		s.mu.Lock()
		left := s.bytes
		s.mu.Unlock()
		if left == 0 {
			return
		}
		runtime.Gosched() // the test's own limit of time ends this
	}
}
