package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/partial"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

// chunks makes of a connection a stream: the peer sends questions, as many
// digests at a time as it likes, and is sent the chunks of each question in the
// order in which they lie here. Of a chunk whose beginning it has, it may ask for
// the rest.
func (s *Server) chunks(w http.ResponseWriter, q request) error {
	if q.Header.Get("Upgrade") != Protocol {
		return &refusal{http.StatusUpgradeRequired, "this path upgrades to " + Protocol}
	}
	_, ch, err := s.open(q, "")
	if err != nil {
		return err
	}
	may, err := s.reachable(q)
	if err != nil {
		return err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	s.wg.Add(1)
	defer s.wg.Done()
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	if b, ok := under(conn).(interface{ SetWriteBuffer(int) error }); ok {
		_ = b.SetWriteBuffer(sendBuffer)
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Protocol)
	if err == nil {
		err = (&lender{ch: ch, may: may, conn: conn, in: rw.Reader, out: s.out(q.peer), memory: s.lent(q.peer)}).run()
	}
	if err != nil {
		s.cfg.Log.Debug("stream of chunks ended", "peer", q.peer, "err", err)
	}
	return nil
}

// A lender serves one stream of chunks.
type lender struct {
	ch   Chunks
	may  *reach
	conn net.Conn
	in   *bufio.Reader
	out  *rate.Bucket

	// Of all streams of the peer: what of blobs may be in memory.
	memory *semaphore.Weighted

	// A token for one answer: the store reads several chunks at a time. It is no
	// mutex, as whoever waits for it waits for the peer, and must stop when asked to.
	sending chan struct{}

	mu     sync.Mutex
	more   sync.Cond
	queued []question
	ended  bool
	size   int // of a chunk, lately
}

// run reads questions and answers them until the peer ends the stream.
// Questions are read at all times, so that asking never waits for answers.
func (l *lender) run() error {
	l.more.L = &l.mu
	l.size, l.sending = batchBytes, make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	read := make(chan error, 1)
	go func() {
		err := l.questions()
		cancel()
		l.end()
		read <- err
	}()
	err := l.answers(ctx)
	l.conn.Close() // ends the reading
	return errors.Join(err, ignoreEOF(<-read))
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (l *lender) questions() error {
	for {
		qs, err := readQuestions(l.in)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.queued = append(l.queued, qs...)
		tooMany := len(l.queued) > maxQueued
		l.more.Signal()
		l.mu.Unlock()
		if tooMany {
			return fmt.Errorf("it asked for more than %d chunks ahead", maxQueued)
		}
	}
}

func (l *lender) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.more.Signal()
}

// batch is how many chunks are read from the store together, and batchBytes
// about how much of them. lendBytes bounds what all streams of one peer have in
// memory, beside what waits to be sent: enough for sixteen slow streams, half of
// which wait for their own connection.
const (
	batch      = 256
	batchBytes = 2 << 20
	lendBytes  = 32 << 20
)

// lent returns what bounds the memory of all streams of a peer.
func (s *Server) lent(peer string) *semaphore.Weighted {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory[peer] == nil {
		s.memory[peer] = semaphore.NewWeighted(lendBytes)
	}
	return s.memory[peer]
}

// take waits for questions and returns some of them, with about how many bytes
// their chunks have; none at the end.
func (l *lender) take() (qs []question, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queued) == 0 && !l.ended {
		l.more.Wait()
	}
	if l.ended {
		return nil, 0
	}
	n := min(len(l.queued), batch, max(1, batchBytes/max(l.size, 1)))
	qs = l.queued[:n:n]
	l.queued = l.queued[n:]
	return qs, min(int64(n)*int64(l.size), lendBytes)
}

func (l *lender) answers(ctx context.Context) error {
	for {
		qs, bytes := l.take()
		if len(qs) == 0 {
			return nil
		}
		if err := l.memory.Acquire(ctx, bytes); err != nil {
			return err
		}
		err := l.batch(ctx, qs)
		l.memory.Release(bytes)
		if err != nil {
			return err
		}
	}
}

// batch answers some questions.
func (l *lender) batch(ctx context.Context, qs []question) error {
	ds := make([]chunks.Digest, len(qs))
	rests := map[chunks.Digest]question{}
	for i, q := range qs {
		if ds[i] = q.digest; q.size > 0 {
			rests[q.digest] = q
		}
	}
	allowed := make([]bool, len(ds))
	located(l.ch, ds, l.may, func(i int) { allowed[i] = true })
	want := make([]chunks.Digest, 0, len(ds))
	for i, d := range ds {
		if allowed[i] {
			want = append(want, d)
		} else if err := l.answer(ctx, d, nil, stateMissing); err != nil {
			return err
		}
	}
	return l.ch.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		switch {
		case err == nil:
			if q, is := rests[d]; is && q.size == len(b) {
				return l.answer(ctx, d, b[q.from:], stateRest)
			}
			return l.answer(ctx, d, b, stateHeld)
		case errors.Is(err, chunks.ErrMissing):
			return l.answer(ctx, d, nil, stateMissing)
		}
		return l.answer(ctx, d, failure(err), stateFailed)
	})
}

func (l *lender) answer(ctx context.Context, d chunks.Digest, b []byte, state uint8) error {
	select {
	case l.sending <- struct{}{}:
		defer func() { <-l.sending }()
	case <-ctx.Done():
		return ctx.Err()
	}
	head := appendAnswer(make([]byte, 0, answerSize), d, len(b), state)
	if err := l.out.Wait(ctx, len(head)+len(b)); err != nil {
		return err
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(quiet + time.Duration(len(b)>>14)*time.Second)) // 16 KiB/s is slow, not dead
	if state == stateHeld {
		l.mu.Lock()
		l.size += (len(b) - l.size) / 2
		l.mu.Unlock()
	}
	bufs := net.Buffers{head, b}
	_, err := bufs.WriteTo(l.conn)
	if err != nil {
		l.conn.Close() // the others who have something to send need not find out for themselves
	}
	return err
}

// A stream is the peer's end.
type stream struct {
	conn net.Conn
	in   *bufio.Reader
	flow *flow

	owed    int          // answers
	arrived atomic.Int64 // bytes
	quick   bool         // chunks come so fast that their beginnings are not worth keeping

	parts *partial.Store                  // where beginnings of chunks are kept; nil: nowhere
	begun map[chunks.Digest]*partial.Part // chunks of which the rest was asked for
}

var (
	_ swarm.Stream    = (*stream)(nil)
	_ swarm.Continuer = (*stream)(nil)
)

// Continue has the stream go on where others stopped. See swarm.Continuer.
func (s *stream) Continue(p *partial.Store) {
	s.parts, s.begun = p, map[chunks.Digest]*partial.Part{}
}

// Ask asks for chunks.
func (s *stream) Ask(ds []chunks.Digest) error {
	if s.owed == 0 {
		s.flow.owes(s, true)
	}
	s.owed += len(ds)
	var rests []byte
	if s.parts != nil {
		whole := make([]chunks.Digest, 0, len(ds))
		for _, d := range ds {
			if p := s.parts.Take(d); p != nil {
				s.begun[d] = p
				rests = appendRest(rests, d, p.Have(), p.Size())
			} else {
				whole = append(whole, d)
			}
		}
		ds = whole
	}
	if len(rests) > 0 {
		_ = s.conn.SetWriteDeadline(time.Now().Add(quiet))
		if _, err := s.conn.Write(rests); err != nil {
			return err
		}
	}
	for len(ds) > 0 {
		n := min(len(ds), maxAsk)
		_ = s.conn.SetWriteDeadline(time.Now().Add(quiet))
		if _, err := s.conn.Write(appendDigests(nil, ds[:n])); err != nil {
			return err
		}
		ds = ds[n:]
	}
	return nil
}

// Moved returns how many bytes have arrived.
func (s *stream) Moved() int64 { return s.arrived.Load() }

// Next returns the next answer.
func (s *stream) Next(get func(int) ([]byte, error)) (a swarm.Answer, err error) {
	a, err = s.next(get)
	if s.owed--; s.owed == 0 {
		s.flow.owes(s, false)
	}
	return a, err
}

func (s *stream) next(get func(int) ([]byte, error)) (a swarm.Answer, err error) {
	var head [answerSize]byte
	if err := s.read(head[:], nil); err != nil {
		return a, noEOF(err)
	}
	d, n, state, err := parseAnswer(head[:])
	if err != nil {
		return a, err
	}
	a.Digest = d
	switch state {
	case stateMissing:
		a.Err = chunks.ErrMissing
		s.letGo(d)
		return a, nil
	case stateFailed:
		text := make([]byte, min(n, 1024))
		if err := s.read(text, nil); err != nil {
			return a, noEOF(err)
		}
		if _, err := io.CopyN(io.Discard, s.in, int64(n-len(text))); err != nil {
			return a, noEOF(err)
		}
		a.Err = failed(text)
		s.letGo(d)
		return a, nil
	}
	return s.blob(a, n, state == stateRest, get)
}

// The beginning of a chunk is kept if it is on its way for long, or if the last one
// came at less than quickRate, in bytes a second. At more than that, a puller that is
// killed fetches again what arrives in a moment, and to save that everything else
// would be written twice.
const (
	worthKeeping = 150 * time.Millisecond
	quickRate    = 24 << 20
)

// blob reads a blob, or the rest of one.
func (s *stream) blob(a swarm.Answer, n int, isRest bool, get func(int) ([]byte, error)) (swarm.Answer, error) {
	part := s.begun[a.Digest]
	delete(s.begun, a.Digest)
	if part != nil && !isRest { // the source has another blob of that content
		part.Leave(false)
		s.parts.Drop(a.Digest)
		part = nil
	}
	switch {
	case isRest && (part == nil || part.Have()+n != part.Size()):
		part.Leave(false)
		return a, errFormat
	case isRest:
		a.Kept = part.Have()
	}
	b, err := get(a.Kept + n)
	start := time.Now()
	if err == nil {
		if a.Kept > 0 {
			part.Load(b)
		}
		begun := isRest
		err = s.read(b[a.Kept:], func(got int) {
			if !begun && (!s.quick || time.Since(start) > worthKeeping) {
				part, begun = s.parts.Begin(a.Digest, n), true
			}
			part.Filled(b, a.Kept+got)
		})
	}
	part.Leave(err == nil)
	s.quick = time.Since(start).Seconds()*quickRate < float64(n)
	if err != nil {
		return a, noEOF(err)
	}
	a.Blob = b
	return a, nil
}

// read fills p, and tells how much of it has arrived. It gives up when nothing
// arrives for a while, however much is to come.
func (s *stream) read(p []byte, progress func(n int)) error {
	for got := 0; got < len(p); {
		_ = s.conn.SetReadDeadline(time.Now().Add(quiet))
		n, err := s.in.Read(p[got:])
		s.arrived.Add(int64(n))
		s.flow.arrived(n)
		got += n
		if progress != nil {
			progress(got)
		}
		if err != nil && got < len(p) {
			return err
		}
	}
	return nil
}

// letGo leaves the beginning of a chunk to others.
func (s *stream) letGo(d chunks.Digest) {
	s.begun[d].Leave(false)
	delete(s.begun, d)
}

// End gives back what the stream was to continue. Nobody uses it any more.
func (s *stream) End() {
	for d := range s.begun {
		s.letGo(d)
	}
}

// Close ends the stream.
func (s *stream) Close() error {
	s.flow.closed(s)
	return s.conn.Close()
}
