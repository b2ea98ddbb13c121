package h2

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A writer is an answer as the handler sees it. What it is given to write it
// has written when it returns.
type writer struct {
	s      *stream
	header http.Header
	status int
	begun  bool  // the head is sent
	ended  bool  // the end is sent
	left   int64 // bytes that are to come; -1: not known
	err    error
}

// Header returns the header to be sent.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader sets the status. It is sent with the first bytes, or at the end.
func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write sends bytes.
func (w *writer) Write(p []byte) (n int, err error) {
	w.WriteHeader(http.StatusOK)
	for n < len(p) && w.err == nil {
		var m int
		m, w.err = w.send(p[n:])
		n += m
	}
	return n, w.err
}

// send sends as much of p as one frame takes.
func (w *writer) send(p []byte) (int, error) {
	if !w.begun {
		w.left = w.length()
	}
	n, err := w.s.reserve(min(len(p), maxPiece))
	if err != nil {
		return 0, err
	}
	end := w.left == int64(n) && n == len(p)
	o := &w.s.c.out
	o.begin()
	w.head(false)
	o.data(w.s.id, n, end)
	if err := o.flush(p[:n]); err != nil {
		return 0, err
	}
	w.ended = end
	if w.left > 0 {
		w.left -= int64(n)
	}
	return n, nil
}

// length returns how long the answer is said to be, -1 if nothing is said.
func (w *writer) length() int64 {
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// head appends the head of the answer, once. The caller has the turn.
func (w *writer) head(end bool) {
	if w.begun {
		return
	}
	w.begun = true
	fields := [][2]string{{":status", strconv.Itoa(w.status)}}
	for name, values := range w.header {
		for _, v := range values {
			fields = append(fields, [2]string{strings.ToLower(name), v})
		}
	}
	slices.SortFunc(fields[1:], func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	fields = append(fields, [2]string{"date", time.Now().UTC().Format(http.TimeFormat)})
	w.s.c.out.headers(w.s.id, end, fields)
}

// finish sends what is missing for the answer to have an end.
func (w *writer) finish() {
	if w.ended || w.err != nil || w.s.ctx.Err() != nil {
		return
	}
	w.WriteHeader(http.StatusOK)
	o := &w.s.c.out
	o.begin()
	if w.begun {
		o.data(w.s.id, 0, true)
	} else {
		w.head(true)
	}
	_ = o.flush(nil) // the handler is out, and who reads the connection will know
}

// reserve waits until the client takes some of n bytes, and says how many.
func (s *stream) reserve(n int) (int, error) {
	for {
		s.c.mu.Lock()
		got, grown, over := s.c.tryReserve(s, n), s.c.grown, s.c.over
		s.c.mu.Unlock()
		switch {
		case over != nil:
			return 0, over
		case got > 0:
			return got, nil
		}
		select {
		case <-grown:
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
}
