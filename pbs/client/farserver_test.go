package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

const roundTrip = 150 * time.Millisecond

// A farServer is a PBS server at the other end of a long line, which keeps
// chunks in memory. It lives in a bubble.
type farServer struct {
	t    *testing.T
	http *http.Server
	line *listener

	mu       sync.Mutex
	ends     []end          // of the client
	sessions []*http.Server // each has one
	files    map[string][]byte
	chunks   map[string][]byte
	away     chunks.Digest // is answered with 503
	appended int
	appends  int // requests
	asked    int // requests for chunks
	uploads  int
	silent   chan struct{} // if set, requests for chunks are not answered until it is closed
}

func newFarServer(t *testing.T) *farServer {
	s := &farServer{t: t, line: newListener(), files: map[string][]byte{}, chunks: map[string][]byte{}}
	s.http = &http.Server{
		Handler:   http.HandlerFunc(s.upgrade),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{farCertificate()}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go s.http.ServeTLS(s.line, "", "")
	return s
}

// farCertificate is the one that package httptest has.
var farCertificate = sync.OnceValue(func() tls.Certificate {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	return srv.TLS.Certificates[0]
})

// close ends everything, so that the bubble can.
func (s *farServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, srv := range append(s.sessions, s.http) {
		srv.Close()
	}
}

// client returns a client of the server.
func (s *farServer) client(t *testing.T) *client.Client { return connect(t, s.config(t)) }

func (s *farServer) config(t *testing.T) client.Config {
	cfg := config(t, "far.example:8007", chunks.Fingerprint(chunks.Sum(farCertificate().Certificate[0])).String())
	cfg.Repository.User = "elsa@pbs!laptop"
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		here, there := farApart(roundTrip)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ends = append(s.ends, here)
		s.line.conns <- there
		return here, nil
	}
	return cfg
}

// upgrade answers a request for a session, and serves it.
func (s *farServer) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.t.Error(err)
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	line := newListener()
	line.conns <- ahead{conn, rw.Reader}
	inner := &http.Server{
		Handler: http.HandlerFunc(s.serve), Protocols: protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 200, MaxReceiveBufferPerConnection: 32 << 20, MaxReceiveBufferPerStream: 32 << 20, MaxReadFrameSize: 4 << 20},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, inner)
	go inner.Serve(line)
}

// An ahead connection reads first what has been read of it.
type ahead struct {
	net.Conn
	r io.Reader
}

func (a ahead) Read(b []byte) (int, error) { return a.r.Read(b) }

// serve answers the requests of both protocols as far as these tests go.
func (s *farServer) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	if s.silent != nil && strings.HasSuffix(r.URL.Path, "chunk") {
		select {
		case <-s.silent:
		case <-r.Context().Done():
		}
		return
	}
	answer, err := s.answer(r, body)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, chunks.ErrAway) {
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Write(answer) // without the mutex: it may wait for the client
}

func (s *farServer) answer(r *http.Request, body []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	switch r.Method + " " + r.URL.Path {
	case "GET /download":
		return s.files[q.Get("file-name")], nil
	case "GET /chunk":
		s.asked++
		if q.Get("digest") == s.away.String() {
			return nil, chunks.ErrAway
		}
		if b, ok := s.chunks[q.Get("digest")]; ok {
			return b, nil
		}
		return nil, errors.New("reading file failed: not found")
	case "POST /dynamic_index":
		return []byte(`{"data":1}`), nil
	case "POST /dynamic_chunk":
		s.uploads++
		s.chunks[q.Get("digest")] = body
	case "PUT /dynamic_index":
		return nil, s.append(body)
	case "GET /previous_backup_time":
		if len(s.files) > 0 {
			return []byte(`{"data":1700000000}`), nil
		}
	case "GET /previous":
		return s.files[q.Get("archive-name")], nil
	case "POST /dynamic_close", "POST /blob", "POST /finish":
	default:
		return nil, fmt.Errorf("unexpected %s %s", r.Method, r.URL)
	}
	return []byte(`{"data":null}`), nil
}

// append refuses chunks that have not arrived, as PBS does.
func (s *farServer) append(body []byte) error {
	var list struct {
		Digests []string `json:"digest-list"`
		Offsets []int64  `json:"offset-list"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return err
	}
	for _, d := range list.Digests {
		if _, ok := s.chunks[d]; !ok {
			return fmt.Errorf("no such chunk %s", d)
		}
	}
	s.appended += len(list.Digests)
	s.appends++
	return nil
}

// farChunks returns n chunks of the given size that do not compress, and the
// index of an archive that has them all.
func farChunks(t *testing.T, n, size int) (*chunks.Dynamic, []chunks.Blob) {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	var index chunks.DynamicBuilder
	var all []chunks.Blob
	plain := make([]byte, size)
	for i := range n {
		r.Read(plain)
		blob, err := chunks.Encode(nil, plain, chunks.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, blob)
		if err := index.Append(int64(i+1)*int64(size), chunks.Sum(plain)); err != nil {
			t.Fatal(err)
		}
	}
	x, err := index.Finish(chunks.NewUUID(), time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return x, all
}

// hold makes the server have a snapshot with one archive.
func (s *farServer) hold(t *testing.T, x *chunks.Dynamic, all []chunks.Blob) {
	t.Helper()
	m := manifest.New(first)
	err := m.Add(manifest.File{Name: "root.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum()})
	blob, err2 := m.Blob()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	s.files[manifest.Name], s.files["root.pxar.didx"] = blob, x.Bytes()
	for i, d := range x.All() {
		s.chunks[d.String()] = all[i]
	}
}

// warm makes the coders of zstd, which are shared, and would belong to the
// bubble that uses them first.
func warm(t *testing.T) {
	t.Helper()
	blob, err := manifest.New(first).Blob()
	if err == nil {
		_, err = manifest.ParseBlob(blob)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bubble runs a test against a far server in a time of its own.
func bubble(t *testing.T, test func(t *testing.T, s *farServer, c *client.Client)) {
	t.Helper()
	farCertificate() // not in the bubble: it needs a real connection
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer(t)
		defer s.close()
		test(t, s, s.client(t))
	})
}
