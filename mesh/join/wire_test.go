package join

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

// A recorder keeps what was written.
type recorder struct {
	mu sync.Mutex
	b  bytes.Buffer
}

type recording struct {
	Stream
	to *recorder
}

func (r *recording) Write(b []byte) (int, error) {
	r.to.mu.Lock()
	r.to.b.Write(b)
	r.to.mu.Unlock()
	return r.Stream.Write(b)
}

// replay sends bytes to a server in the name of machine n and returns what it
// is told.
func replay(t *testing.T, s *Server, n byte, sent []byte) (answers []string) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(t.Context(), id(n), netip.MustParseAddr("192.0.2.1"), "", there)
		there.Close()
	}()
	go here.Write(sent)
	var c challenge
	if err := frame.Read(here, maxLarge, &c); err == nil {
		answers = append(answers, detail(c.Refusal))
	}
	var a accept
	if err := frame.Read(here, maxLarge, &a); err == nil {
		answers = append(answers, detail(a.Refusal))
	}
	here.Close()
	<-done
	return answers
}

func detail(r *refusal) string {
	if r == nil {
		return ""
	}
	return r.Detail
}

// A conn is what somebody sends, read once.
type conn struct {
	io.Reader
	io.Writer
}

func (conn) Close() error                { return nil }
func (conn) SetDeadline(time.Time) error { return nil }

// FuzzServer sends a member whatever anyone likes: nobody is admitted.
func FuzzServer(f *testing.F) {
	var b bytes.Buffer
	frame.Write(&b, hello{Version: version, Cluster: name, Token: [8]byte{5}})
	frame.Write(&b, request{Role: "replica", Name: "x"})
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0x3f, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t)
		w.servers[id(1)].Serve(t.Context(), id(50), netip.Addr{}, "", conn{bytes.NewReader(b), io.Discard})
		if w.entries != 0 {
			t.Error("it was admitted")
		}
	})
}

// FuzzMember has a machine ask a member that answers whatever it likes.
func FuzzMember(f *testing.F) {
	w := newWorld(&testing.T{})
	var b bytes.Buffer
	frame.Write(&b, challenge{At: now.Unix(), Links: w.chain.Links(0)})
	frame.Write(&b, accept{Links: w.chain.Links(0), Records: w.records})
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		j := &joiner{cfg: w.cfg}
		g := &greeting{member: w.token.Members[0], conn: conn{bytes.NewReader(b), io.Discard}}
		j.cfg.Open = w.always(g.conn)
		if err := j.hello(t.Context(), g); err != nil {
			return
		}
		r, err := j.request(t.Context(), g)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%T: %v", err, err)
		}
		for _, signed := range r.Records {
			if _, err := signed.Open(); err != nil {
				t.Error(err)
			}
		}
	})
}
