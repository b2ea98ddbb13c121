// Package swarm fetches chunks from several sources at once.
//
// Every source has some streams. A stream takes chunks that its source holds
// from one common queue, so many that they keep it busy for about a second,
// and takes more as they arrive: a fast source takes more than a slow one, and
// nobody plans that. Chunks that a single source holds go first.
//
// What a stream was asked for and did not deliver goes back to the queue when
// the stream fails or stalls. When nothing is left in the queue, what is
// outstanding for long is asked of a second source, and the first answer counts.
// A chunk that is not what its name says is refused, fetched elsewhere, and
// counts against its source; a source that sends three of them is left alone.
package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/partial"
)

// MaxSources is how many sources a swarm may have.
const MaxSources = 64

// A Source is somebody who holds chunks.
type Source interface {
	Name() string

	// Open opens a stream of chunks. ctx is for the whole life of the stream.
	Open(ctx context.Context) (Stream, error)
}

// A Stream answers questions for chunks in any order. One goroutine uses it;
// Close may be called by another one, and ends the other calls.
type Stream interface {
	// Ask asks for chunks. It does not wait for answers.
	Ask(ds []chunks.Digest) error

	// Moved returns how many bytes have arrived in all. Anybody may call it, at
	// any time.
	Moved() int64

	// Next returns the next answer, in memory of get, which may be asked once,
	// for as many bytes as the blob has. It fails when the stream is of no more
	// use, and when nothing arrives for long.
	Next(get func(n int) ([]byte, error)) (Answer, error)

	Close() error
}

// An Answer is a chunk, or why the source does not give it: then the stream
// goes on.
type Answer struct {
	Digest chunks.Digest
	Blob   chunks.Blob
	Kept   int   // bytes at the beginning of Blob that were here before
	Err    error // chunks.ErrMissing, chunks.ErrCorrupt, or what the source says
}

// A Continuer is a stream that can go on in the midst of a chunk, and keep the
// beginnings of those that arrive.
type Continuer interface {
	// Continue is called before anything is asked for.
	Continue(*partial.Store)

	// End gives back what it was to continue. It is called last, by the goroutine
	// that uses the stream.
	End()
}

// Config says what a Swarm works with. The zero value of an optional field
// means its default.
type Config struct {
	Sources []Source // required, at most MaxSources; a chunk's Holders are bits of their places here

	// Put takes a chunk that was checked; it must not keep the blob. It is
	// called by several goroutines. If it fails, the swarm does.
	Put func(ctx context.Context, d chunks.Digest, b chunks.Blob) error // required

	// Check says whether a blob is what it has to be. If it fails, the chunk
	// counts against its source, unless the error is ErrDoubt. Default:
	// Blob.Verify, which of an encrypted chunk can only tell that it arrived as
	// it was sent.
	Check func(d chunks.Digest, b chunks.Blob) error

	// Known, if given, says whether a chunk is here already. It is asked once a
	// chunk is wanted, and so that one which is just arriving is not fetched
	// again. It must not wait for the swarm.
	Known func(d chunks.Digest) bool

	// Got, if given, is told which source a chunk came from that was put. It
	// must not wait.
	Got func(d chunks.Digest, source string)

	// Away, if given, is told of a source of which no stream is left, once until it
	// has sent something again. It must not wait.
	Away func(source string, err error)

	// Parts, if given, keeps the beginnings of chunks that are on their way.
	Parts *partial.Store

	// Soon says that chunks will be wanted soon: streams are opened at once, while
	// it is found out which.
	Soon bool

	Streams    int          // of each source, to begin with; default 4
	MaxStreams int          // of each source, if more of them carry more; default 16
	Memory     int64        // bytes of blobs that are under way in this process; default 256 MiB
	Log        *slog.Logger // default: discard
}

// A Chunk is wanted.
type Chunk struct {
	Digest  chunks.Digest
	Size    int    // bytes of its content, about as many as will be sent
	Holders uint64 // sources that may have it

	// Done is called once: with nil when the chunk was put, or with why nobody
	// could give it. It is called by any goroutine and must not wait.
	Done func(error)
}

// Stats say how a swarm is doing.
type Stats struct {
	Fetched  int64        `json:"fetched"` // chunks that were put
	Bytes    int64        `json:"bytes"`   // of these, as sent
	Kept     int64        `json:"kept"`    // bytes that an interrupted run had fetched, and were not sent again
	Twice    int64        `json:"twice"`   // bytes that arrived and were not needed any more
	Waiting  int          `json:"waiting"` // chunks, asked for or not
	BySource []SourceStat `json:"sources"`
}

// A SourceStat says what one source has sent.
type SourceStat struct {
	Name    string `json:"name"`
	Chunks  int64  `json:"chunks"`
	Bytes   int64  `json:"bytes"`
	Streams int    `json:"streams"`
	Bad     int    `json:"bad"`              // chunks that were not what they had to be
	Doubts  int    `json:"doubts,omitempty"` // that nobody could say this of: see ErrDoubt
	Last    string `json:"last,omitempty"`   // what went wrong last
	Dropped bool   `json:"dropped,omitempty"`
}

// A Swarm fetches what it is told to while it runs.
type Swarm struct {
	cfg    Config
	memory *semaphore.Weighted
	checks chan arrival

	mu      sync.Mutex
	work    sync.Cond // something was queued, or the swarm ends
	items   map[chunks.Digest]*item
	queues  queues
	sources []*source
	known   int     // streams that have shown how fast they are
	rate    float64 // bytes per second, of these together
	ended   bool
	stats   Stats
}

// New returns a swarm. It starts nothing.
func New(cfg Config) (*Swarm, error) {
	switch {
	case len(cfg.Sources) == 0 || len(cfg.Sources) > MaxSources:
		return nil, fmt.Errorf("swarm: %d sources, want 1 to %d", len(cfg.Sources), MaxSources)
	case cfg.Put == nil:
		return nil, errors.New("swarm: no place to put chunks")
	}
	if cfg.Check == nil {
		cfg.Check = func(d chunks.Digest, b chunks.Blob) error { return b.Verify(d, nil) }
	}
	cfg.Streams = cmp.Or(cfg.Streams, 4)
	cfg.MaxStreams = max(cmp.Or(cfg.MaxStreams, 16), cfg.Streams)
	cfg.Memory = max(cmp.Or(cfg.Memory, 256<<20), 2*chunks.MaxBlob)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Swarm{
		cfg: cfg, memory: semaphore.NewWeighted(cfg.Memory), checks: make(chan arrival),
		items: map[chunks.Digest]*item{}, queues: queues{},
	}
	s.work.L = &s.mu
	for i, from := range cfg.Sources {
		s.sources = append(s.sources, &source{Source: from, bit: 1 << i, limit: cfg.Streams})
	}
	return s, nil
}

// Want queues chunks. One that is wanted already is fetched once, and all who
// want it are told. Whoever has no holders is told at once.
func (s *Swarm) Want(list []Chunk) {
	var lost []func()
	s.mu.Lock()
	for _, c := range list {
		it := s.items[c.Digest]
		switch {
		case s.ended:
			lost = append(lost, func() { c.Done(context.Canceled) })
		case it != nil:
			it.done = append(it.done, c.Done)
			s.widen(it, c.Holders)
		case s.cfg.Known != nil && s.cfg.Known(c.Digest):
			lost = append(lost, func() { c.Done(nil) })
		default:
			it = &item{digest: c.Digest, size: max(c.Size, 1), done: []func(error){c.Done}}
			s.items[c.Digest] = it
			s.widen(it, c.Holders)
			if it.holders == 0 {
				it.why = chunks.ErrMissing
				lost = append(lost, s.finish(it, it.failure()))
			}
		}
	}
	s.work.Broadcast()
	s.mu.Unlock()
	run(lost)
}

// widen adds sources to those that may have a chunk.
func (s *Swarm) widen(it *item, holders uint64) {
	for _, src := range s.sources {
		if src.dropped {
			holders &^= src.bit
		}
	}
	more := holders &^ (it.holders | it.refused)
	if more == 0 {
		return
	}
	queued := it.queued
	if queued {
		s.queues.remove(it)
	}
	it.holders |= more
	if queued || len(it.by) == 0 && !it.checking {
		s.queues.add(it)
	}
}

// Run fetches until ctx is done or putting a chunk fails. It may be called
// once. Everything that is still wanted when it returns is told so.
func (s *Swarm) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.work.Broadcast()
		s.mu.Unlock()
	})
	defer stop()
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error { return s.check(ctx) })
	}
	for _, src := range s.sources {
		g.Go(func() error { return s.serve(ctx, src) })
	}
	err := g.Wait()
	s.end(cmp.Or(err, context.Cause(ctx)))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// end tells everybody who still waits.
func (s *Swarm) end(why error) {
	s.mu.Lock()
	s.ended = true
	var tell []func()
	for _, it := range s.items {
		tell = append(tell, s.finish(it, why))
	}
	s.mu.Unlock()
	run(tell)
}

// Stats returns how it is going.
func (s *Swarm) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting = len(s.items)
	for _, src := range s.sources {
		one := src.stat
		one.Name, one.Streams, one.Dropped = src.Name(), src.streams, src.dropped
		st.BySource = append(st.BySource, one)
	}
	return st
}

// An arrival is a blob to be checked and put.
type arrival struct {
	src  *source
	blob chunks.Blob
	kept int // bytes that the source did not send now
	d    chunks.Digest
	mem  *loan
}

// check checks and stores what arrives.
func (s *Swarm) check(ctx context.Context) error {
	for {
		var a arrival
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a = <-s.checks:
		}
		err := s.take(ctx, a)
		a.mem.free()
		if err != nil {
			return err
		}
	}
}

func (s *Swarm) take(ctx context.Context, a arrival) error {
	if !s.needed(a) {
		s.cfg.Parts.Drop(a.d)
		return nil
	}
	bad := s.cfg.Check(a.d, a.blob)
	if bad != nil {
		s.cfg.Parts.Drop(a.d)
		if a.kept > 0 {
			s.again(a)
			return nil
		}
	} else if err := s.cfg.Put(ctx, a.d, a.blob); err != nil {
		return fmt.Errorf("store chunk %s: %w", a.d.Short(), err)
	} else {
		s.cfg.Parts.Put(a.d)
	}
	s.settle(a, bad)
	return nil
}

// again queues a chunk of which only the rest came, and which as a whole is not
// what it has to be. That may be the fault of what was here, as after a power cut:
// it is fetched as a whole, and no source is blamed.
func (s *Swarm) again(a arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[a.d]
	it.checking = false
	s.stats.Twice += int64(len(a.blob) - a.kept)
	s.cfg.Log.Info("the beginning of a chunk that an earlier run has left is of no use", "digest", a.d)
	if len(it.by) == 0 && it.holders != 0 {
		s.queues.add(it)
		s.work.Broadcast()
	}
}

// needed reports whether a chunk that arrived is still wanted.
func (s *Swarm) needed(a arrival) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[a.d]
	if it == nil || it.checking {
		s.stats.Twice += int64(len(a.blob) - a.kept)
		return false
	}
	it.checking = true
	return true
}

// settle notes that a chunk was put, or that it was bad.
func (s *Swarm) settle(a arrival, bad error) {
	s.mu.Lock()
	it := s.items[a.d]
	var tell []func()
	if bad == nil {
		s.stats.Fetched++
		s.stats.Bytes += int64(len(a.blob) - a.kept)
		s.stats.Kept += int64(a.kept)
		a.src.stat.Chunks++
		a.src.stat.Bytes += int64(len(a.blob) - a.kept)
		tell = append(tell, s.finish(it, nil))
	} else {
		it.checking = false
		a.src.stat.Last = bad.Error()
		if errors.Is(bad, ErrDoubt) {
			a.src.stat.Doubts++
		} else {
			a.src.stat.Bad++
		}
		s.cfg.Log.Warn("source sent a bad chunk", "source", a.src.Name(), "digest", a.d, "err", bad)
		tell = append(tell, s.refuse(it, a.src, fmt.Errorf("what %s sent is refused: %w", a.src.Name(), bad)))
		if a.src.stat.Bad >= maxBad && !a.src.dropped {
			tell = append(tell, s.drop(a.src)...)
		}
	}
	s.mu.Unlock()
	if bad == nil && s.cfg.Got != nil {
		s.cfg.Got(a.d, a.src.Name())
	}
	run(tell)
}

func run(list []func()) {
	for _, f := range list {
		f()
	}
}

// ErrDoubt is of a chunk that is refused, though its source need not have lied:
// it is fetched elsewhere.
var ErrDoubt = errors.New("chunk cannot be believed")

// maxBad is how many bad chunks a source may send in one run. One may be a bit
// that flipped on its disk; three are no accident.
const maxBad = 3

// finish removes an item and returns what tells who wants it.
func (s *Swarm) finish(it *item, err error) func() {
	s.queues.remove(it)
	delete(s.items, it.digest)
	it.over = true
	return func() {
		for _, done := range it.done {
			done(err)
		}
	}
}

// refuse notes that a source will not give a chunk. It goes to another one, or
// is lost.
func (s *Swarm) refuse(it *item, src *source, why error) func() {
	queued := it.queued
	if queued {
		s.queues.remove(it)
	}
	it.holders &^= src.bit
	it.refused |= src.bit
	it.by = slices.DeleteFunc(it.by, func(l *line) bool { return l.src == src })
	it.why = errors.Join(it.why, why)
	switch {
	case it.checking:
	case it.holders == 0:
		return s.finish(it, it.failure())
	case len(it.by) == 0 || queued:
		s.queues.add(it)
		s.work.Broadcast()
	}
	return func() {}
}

// drop leaves a source alone for the rest of the run.
func (s *Swarm) drop(src *source) []func() {
	src.dropped = true
	s.cfg.Log.Error("source is not asked any more", "source", src.Name(), "bad", src.stat.Bad, "last", src.stat.Last)
	return s.giveUp(src, fmt.Errorf("%s is not asked any more", src.Name()))
}

// giveUp takes a source off all chunks that are wanted.
func (s *Swarm) giveUp(src *source, why error) (tell []func()) {
	for _, it := range s.items {
		if it.holders&src.bit != 0 {
			tell = append(tell, s.refuse(it, src, why))
		}
	}
	s.work.Broadcast()
	return tell
}
