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

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

// chunks makes of a connection a stream: the peer sends questions, as many
// digests at a time as it likes, and is sent the chunks of each question in the
// order in which they lie here.
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
		err = (&lender{ch: ch, may: may, conn: conn, in: rw.Reader, out: s.out(q.peer)}).run()
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

	// A token for one answer: the store reads several chunks at a time. It is no
	// mutex, as whoever waits for it waits for the peer, and must stop when asked to.
	sending chan struct{}

	mu     sync.Mutex
	more   sync.Cond
	queued []chunks.Digest
	ended  bool
	size   int // of a chunk, lately
}

// run reads questions and answers them until the peer ends the stream.
// Questions are read at all times, so that asking never waits for answers.
func (l *lender) run() error {
	l.more.L = &l.mu
	l.size, l.sending = 1<<20, make(chan struct{}, 1)
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
		ds, err := readDigests(l.in, maxAsk)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.queued = append(l.queued, ds...)
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
// about how much of them: a source may have hundreds of streams, and each of them
// has that much in memory.
const (
	batch      = 256
	batchBytes = 4 << 20
)

// take waits for questions and returns some of them; none at the end.
func (l *lender) take() []chunks.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queued) == 0 && !l.ended {
		l.more.Wait()
	}
	if l.ended {
		return nil
	}
	n := min(len(l.queued), batch, max(1, batchBytes/max(l.size, 1)))
	ds := l.queued[:n:n]
	l.queued = l.queued[n:]
	return ds
}

func (l *lender) answers(ctx context.Context) error {
	for {
		ds := l.take()
		if len(ds) == 0 {
			return nil
		}
		allowed := make([]bool, len(ds))
		located(l.ch, ds, l.may, func(i int) { allowed[i] = true })
		want := ds[:0:0]
		for i, d := range ds {
			if allowed[i] {
				want = append(want, d)
			} else if err := l.answer(ctx, d, nil, stateMissing); err != nil {
				return err
			}
		}
		err := l.ch.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
			switch {
			case err == nil:
				return l.answer(ctx, d, b, stateHeld)
			case errors.Is(err, chunks.ErrMissing):
				return l.answer(ctx, d, nil, stateMissing)
			}
			return l.answer(ctx, d, []byte(err.Error()), stateFailed)
		})
		if err != nil {
			return err
		}
	}
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
}

var _ swarm.Stream = (*stream)(nil)

// Ask asks for chunks.
func (s *stream) Ask(ds []chunks.Digest) error {
	if s.owed == 0 {
		s.flow.owes(s, true)
	}
	s.owed += len(ds)
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
	if err := s.read(head[:]); err != nil {
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
		return a, nil
	case stateFailed:
		text := make([]byte, min(n, 1024))
		if err := s.read(text); err != nil {
			return a, noEOF(err)
		}
		if _, err := io.CopyN(io.Discard, s.in, int64(n-len(text))); err != nil {
			return a, noEOF(err)
		}
		a.Err = fmt.Errorf("%w there: %q", chunks.ErrCorrupt, text)
		return a, nil
	}
	b, err := get(n)
	if err != nil {
		return a, err
	}
	if err := s.read(b); err != nil {
		return a, noEOF(err)
	}
	a.Blob = b
	return a, nil
}

// read fills p. It gives up when nothing arrives for a while, however much is
// to come.
func (s *stream) read(p []byte) error {
	for len(p) > 0 {
		_ = s.conn.SetReadDeadline(time.Now().Add(quiet))
		n, err := s.in.Read(p)
		s.arrived.Add(int64(n))
		s.flow.arrived(n)
		if p = p[n:]; err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// Close ends the stream.
func (s *stream) Close() error {
	s.flow.closed(s)
	return s.conn.Close()
}
