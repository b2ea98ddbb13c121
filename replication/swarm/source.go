package swarm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A source is one of the sources of a swarm. The swarm's lock protects it.
type source struct {
	Source
	bit     uint64
	limit   int // streams it should have
	streams int // that it has
	lines   []*line
	dropped bool
	away    bool // it does not answer, and somebody was told
	stat    SourceStat

	rate  float64 // bytes a second, before the trial that goes on
	trial int     // streams that there were before it; 0: none does
	looks int     // since the trial began, or ended
}

// serve keeps streams to one source until ctx is done.
func (s *Swarm) serve(ctx context.Context, src *source) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(tuneEvery)
	defer tick.Stop()
	for n := 0; ; {
		for ; n < s.limit(src); n++ {
			at := n
			wg.Go(func() { s.keep(ctx, src, at) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.tune(src)
			s.work.Broadcast() // what has been outstanding for long may be asked of others now
		}
	}
}

func (s *Swarm) limit(src *source) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return src.limit
}

// tuneEvery is how often it is decided whether more streams carry more: long
// enough for several round trips around the earth, short enough that a pull of
// half a minute gains from it.
const tuneEvery = time.Second

// How many looks a trial has to bring something, and after how many the next one
// follows when it did not.
const (
	firstTrial = 4 // what the streams carry when they have just begun says nothing
	trialLooks = 4
	restLooks  = 60
)

// tune tries whether twice as many streams carry a quarter more, and goes back if
// they do not: each of them costs both ends memory. On a line that loses packets
// each stream is bound by its round trip and the loss (Mathis' law), so n streams
// carry n times as much; where the line itself is the limit, more of them carry
// the same.
func (s *Swarm) tune(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rate := 0.0
	for _, l := range src.lines {
		rate += l.look()
	}
	if src.streams < src.limit || len(s.items) <= src.limit { // there is too little to do
		return
	}
	src.looks++
	switch {
	case src.trial > 0 && rate > src.rate*1.25:
		src.trial = 0
	case src.trial > 0 && src.looks < trialLooks:
		return
	case src.trial > 0:
		src.limit, src.trial, src.looks = src.trial, 0, firstTrial
		return
	case src.looks != firstTrial && src.looks < restLooks:
		return
	}
	if src.limit < s.cfg.MaxStreams {
		src.rate, src.trial, src.looks = rate, src.limit, 0
		src.limit = min(src.limit*2, s.cfg.MaxStreams)
	}
}

// keep keeps the nth stream open while there is something to ask for, and opens
// it again, after a growing pause, when it fails.
func (s *Swarm) keep(ctx context.Context, src *source, n int) {
	pause := firstPause
	for soon := s.cfg.Soon; soon || s.await(ctx, src, n); soon = false {
		began := time.Now()
		got, err := s.stream(ctx, src, n)
		if ctx.Err() != nil {
			return
		}
		if got > 0 || err == nil {
			pause = firstPause
			s.here(src)
		}
		if err == nil {
			continue
		}
		s.failed(src, err, got == 0 && pause >= lastPause)
		t := time.NewTimer(max(0, pause-time.Since(began)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// Pauses between attempts to reach a source.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 16 * time.Second
)

// await returns when the source can be asked for something, and false if it
// never will be.
func (s *Swarm) await(ctx context.Context, src *source, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil && !src.dropped {
		if n >= src.limit {
			s.work.Wait()
			continue
		}
		if s.queues.has(src.bit) || s.second(src) != nil {
			return true
		}
		s.work.Wait()
	}
	return false
}

func (q queues) has(bit uint64) bool {
	for mask := range q {
		if mask&bit != 0 {
			return true
		}
	}
	return false
}

func (s *Swarm) here(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src.away = false
}

// failed notes that a stream ended. A source that cannot be reached for a long
// time gives its chunks back: others have them, or they are lost to this run.
func (s *Swarm) failed(src *source, err error, gone bool) {
	s.cfg.Log.Debug("stream failed", "source", src.Name(), "err", err)
	var tell []func()
	s.mu.Lock()
	src.stat.Last = err.Error()
	if s.cfg.Away != nil && src.streams == 0 && !src.away {
		src.away = true
		tell = append(tell, func() { s.cfg.Away(src.Name(), err) })
	}
	if gone && src.streams == 0 {
		tell = append(tell, s.giveUp(src, err)...)
	}
	s.mu.Unlock()
	run(tell)
}

// A line is one stream and what it was asked for.
type line struct {
	src   *source
	n     int // of the streams to its source
	asked map[chunks.Digest]*item
	bytes int // about, of asked
	heard time.Time
	rate  float64 // bytes per second, lately

	st    Stream
	moved int64     // bytes, when tuning looked last
	speed float64   // bytes per second between the last looks
	alive time.Time // when something was seen to have arrived
}

// look finds out how fast a stream is, and returns it.
func (l *line) look() float64 {
	now := l.st.Moved()
	l.speed = float64(now-l.moved) / tuneEvery.Seconds()
	if now != l.moved {
		l.alive = time.Now()
	}
	l.moved = now
	return l.speed
}

// late reports whether a stream will take much longer for what it owes than
// another one that brings so much a second would take for a chunk.
func (l *line) late(it *item, other float64) bool {
	if time.Since(l.alive) > overdue || l.speed == 0 {
		return true
	}
	left := float64(l.bytes) / l.speed
	return left > overdue.Seconds() && left*other > 2*float64(it.size)
}

// How much a stream is asked for ahead, in bytes.
const (
	ahead    = 1500 * time.Millisecond // worth of its rate
	minAhead = 2 << 20
	maxAhead = 32 << 20
	maxAsked = 4096 // chunks
)

func (l *line) room() int {
	if len(l.asked) >= maxAsked {
		return 0
	}
	return min(max(int(l.rate*ahead.Seconds()), minAhead), maxAhead) - l.bytes
}

// stream opens a stream and works with it until it fails, or there is nothing
// to ask for. It returns how many chunks it got.
func (s *Swarm) stream(ctx context.Context, src *source, n int) (got int, err error) {
	st, err := src.Open(ctx)
	if err != nil {
		return 0, err
	}
	l := &line{src: src, n: n, asked: map[chunks.Digest]*item{}, heard: time.Now(), alive: time.Now(), st: st}
	s.mu.Lock()
	src.streams++
	src.lines = append(src.lines, l)
	s.mu.Unlock()
	defer s.giveBack(l)
	if c, can := st.(Continuer); can && s.cfg.Parts != nil {
		c.Continue(s.cfg.Parts)
		defer c.End() // after the stream was closed, and before what it owes is asked of another
	}
	unhook := context.AfterFunc(ctx, func() { _ = st.Close() })
	defer func() {
		if unhook() {
			_ = st.Close()
		}
	}()
	for {
		ask := s.more(l)
		if len(ask) > 0 {
			if err := st.Ask(ask); err != nil {
				return got, err
			}
		}
		if len(l.asked) == 0 {
			if !s.idle(ctx, l) {
				return got, nil
			}
			continue
		}
		a, mem, err := s.next(ctx, st)
		if err != nil {
			return got, err
		}
		if a.Err == nil {
			got++
		}
		if err := s.arrived(ctx, l, a, mem); err != nil {
			return got, err
		}
	}
}

// idleFor is how long a stream stays open with nothing to ask for: one that has
// found out how fast it may be is worth more than a new one.
const idleFor = 5 * time.Second

// idle waits for something to ask for, and returns false if the stream is not
// worth keeping.
func (s *Swarm) idle(ctx context.Context, l *line) bool {
	until := time.Now().Add(idleFor)
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil && !l.src.dropped && l.n < l.src.limit && time.Now().Before(until) {
		if s.queues.has(l.src.bit) || s.second(l.src) != nil {
			return true
		}
		s.work.Wait() // somebody wakes us every second
	}
	return false
}

var errUnasked = errors.New("it sent a chunk that nobody asked for")

// A loan is memory for one blob, of what the swarm may use.
type loan struct {
	s   *Swarm
	buf *chunks.Buffer
	n   int64
}

func (l *loan) free() {
	if l != nil {
		l.buf.Free()
		l.s.memory.Release(l.n)
	}
}

// next waits for the next answer.
func (s *Swarm) next(ctx context.Context, st Stream) (Answer, *loan, error) {
	var mem *loan
	a, err := st.Next(func(n int) ([]byte, error) {
		if n > chunks.MaxBlob {
			return nil, errors.New("it sent a chunk that is too long")
		}
		if err := s.memory.Acquire(ctx, int64(n)); err != nil {
			return nil, err
		}
		mem = &loan{s, chunks.GetBuffer(n), int64(n)}
		return mem.buf.Bytes[:n], nil
	})
	if err != nil || a.Err != nil {
		mem.free()
		return a, nil, err
	}
	return a, mem, nil
}

// more takes what the stream can be asked for now.
func (s *Swarm) more(l *line) []chunks.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.src.dropped || l.n >= l.src.limit {
		return nil
	}
	if len(l.asked) == 0 {
		l.heard = time.Now()
	}
	var ask []chunks.Digest
	room := l.room()
	if room < minAhead/2 && len(l.asked) > 0 {
		return nil // not a question for every answer
	}
	for share := s.share(l); room > 0 && len(l.asked) < share; {
		it := s.queues.take(l.src.bit)
		if it == nil && len(l.asked) == 0 {
			it = s.second(l.src)
		}
		if it == nil {
			break
		}
		it.since = time.Now()
		it.by = append(it.by, l)
		l.asked[it.digest] = it
		l.bytes += it.size
		room -= it.size
		ask = append(ask, it.digest)
	}
	return ask
}

// share is how many chunks a stream may be asked for ahead, so that all streams
// end at about the same time: of what is left, as much as it carries of what
// all carry. One that has shown nothing yet counts as much as this one.
func (s *Swarm) share(l *line) int {
	unknown := -s.known
	for _, src := range s.sources {
		if !src.dropped {
			unknown += src.limit
		}
	}
	part := 1 / float64(max(unknown+s.known, 1))
	if l.rate > 0 {
		part = l.rate / (s.rate + l.rate*float64(max(unknown, 0)))
	}
	return min(int(float64(len(s.items))*part)+1, maxAsked)
}

// second finds the chunk that has been outstanding for longest, when so little
// is left that the slowest stream would be waited for. It is asked of another
// source, or by another stream of the only one that has it.
func (s *Swarm) second(src *source) *item {
	if len(s.items) > endgame {
		return nil
	}
	var best *item
	speed := src.usual()
	for _, it := range s.items {
		if it.holders&src.bit == 0 || len(it.by) != 1 || it.checking || it.by[0].src == src && it.holders != src.bit {
			continue
		}
		if time.Since(it.since) > overdue && (best == nil || it.since.Before(best.since)) && it.by[0].late(it, speed) {
			best = it
		}
	}
	return best
}

// usual returns how fast the streams of a source are, that are fast at all.
func (src *source) usual() float64 {
	sum, n := 0.0, 0
	for _, l := range src.lines {
		if l.speed > 0 {
			sum, n = sum+l.speed, n+1
		}
	}
	return sum / float64(max(n, 1))
}

// When no more than endgame chunks are left, one that is overdue, and will be for
// long, is asked of a second source.
const (
	endgame = 64
	overdue = 2 * time.Second
)

// arrived deals with an answer.
func (s *Swarm) arrived(ctx context.Context, l *line, a Answer, mem *loan) error {
	s.mu.Lock()
	it := l.asked[a.Digest]
	if it == nil {
		s.mu.Unlock()
		mem.free()
		return errUnasked
	}
	delete(l.asked, a.Digest)
	l.bytes -= it.size
	it.leave(l)
	now := time.Now()
	if gap := now.Sub(l.heard).Seconds(); gap > 0 {
		if l.rate == 0 && len(a.Blob) > 0 {
			s.known++
		}
		more := (float64(len(a.Blob)-a.Kept)/gap - l.rate) * min(1, gap) // what is younger than a second counts most
		l.rate += more
		s.rate += more
	}
	l.heard = now
	tell := func() {}
	if a.Err != nil && !it.over {
		tell = s.refuse(it, l.src, a.Err)
	}
	s.mu.Unlock()
	tell()
	if a.Err != nil {
		return nil
	}
	select {
	case s.checks <- arrival{l.src, a.Blob, a.Kept, a.Digest, mem}:
		return nil
	case <-ctx.Done():
		mem.free()
		return ctx.Err()
	}
}

// giveBack puts what a stream did not deliver back into the queue.
func (s *Swarm) giveBack(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.src.streams--
	l.src.lines = slices.DeleteFunc(l.src.lines, func(x *line) bool { return x == l })
	if s.rate -= l.rate; l.rate > 0 {
		s.known--
	}
	for _, it := range l.asked {
		it.leave(l)
		if !it.over && !it.checking && len(it.by) == 0 && it.holders != 0 {
			s.queues.add(it)
		}
	}
	s.work.Broadcast()
}
