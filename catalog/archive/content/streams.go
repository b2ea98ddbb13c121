package content

import "github.com/holdfast-mesh/holdfast/chunks"

const (
	// maxStreams is how many places of an archive can be read in order at the
	// same time: a restore jumps between contents and tables.
	maxStreams = 4

	// behind is how many chunks back still belong to a stream: several workers
	// restore neighbouring files, and do not keep step.
	behind = 8
)

// A stream is a place that moves through an archive.
type stream struct {
	front int // the furthest chunk that was read
	next  int // the first that was not yet asked for; at least front+1
	told  int // the first that no source was told of
	moved bool
	used  uint64
}

// streams tells reading in order from jumping about. The owner's mutex guards
// it.
type streams struct {
	all   [maxStreams]stream
	count int
	clock uint64
}

// use notes that chunk i was read.
func (s *streams) use(i int) {
	s.clock++
	at := s.find(i)
	if at == nil {
		at = s.oldest()
		*at = stream{front: i, next: i + 1}
	}
	if i > at.front {
		at.front, at.next, at.moved = i, max(at.next, i+1), true
	}
	at.used = s.clock
}

func (s *streams) find(i int) *stream {
	for k := range s.all[:s.count] {
		if at := &s.all[k]; i >= at.front-behind && i <= at.next {
			return at
		}
	}
	return nil
}

// oldest returns the stream to give up for a new one.
func (s *streams) oldest() *stream {
	if s.count < maxStreams {
		s.count++
		return &s.all[s.count-1]
	}
	best := &s.all[0]
	for k := range s.all {
		if s.all[k].used < best.used {
			best = &s.all[k]
		}
	}
	return best
}

// next returns a chunk that will probably be read soon, each once: one that
// ends at most ahead bytes behind the front of a stream which has moved.
func (s *streams) next(x chunks.Index, ahead int64) (i int, ok bool) {
	for k := range s.all[:s.count] {
		at := &s.all[k]
		if !at.moved || at.next >= x.Len() {
			continue
		}
		_, front := x.Range(at.front)
		if _, end := x.Range(at.next); end-front <= ahead {
			at.next++
			return at.next - 1, true
		}
	}
	return 0, false
}

// expect returns the chunks that will probably be read soon, as next does, and
// of which nobody was told yet.
func (s *streams) expect(x chunks.Index, ahead int64) (want []chunks.Digest) {
	for k := range s.all[:s.count] {
		at := &s.all[k]
		if !at.moved {
			continue
		}
		_, front := x.Range(at.front)
		for at.told = max(at.told, at.next); at.told < x.Len(); at.told++ {
			if _, end := x.Range(at.told); end-front > ahead {
				break
			}
			want = append(want, x.Digest(at.told))
		}
	}
	return want
}
