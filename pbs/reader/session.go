package reader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Session is one snapshot that a client reads. Make one with [Server.Open].
type Session struct {
	server *Server
	req    Request
	log    *slog.Logger
	task   upgrade.Task
	reader *catalog.Reader
	ahead  *readahead

	mu sync.RWMutex

	indexes []*contents     // that were downloaded
	names   map[string]bool // of these
}

func newSession(s *Server, req Request, r *catalog.Reader) *Session {
	return &Session{
		server: s,
		req:    req,
		log:    s.cfg.Log.With("datastore", req.Store, "snapshot", req.Snapshot.String()),
		task:   upgrade.Unread,
		reader: r,
		ahead:  newReadahead(r.Chunks(), s.cfg.Ahead),
		names:  map[string]bool{},
	}
}

// Close ends a session that is not served, and lets go of the snapshot.
func (s *Session) Close() {
	s.ahead.close()
	for _, c := range s.indexes {
		if c.plan != nil {
			c.plan.Close()
		}
	}
	s.reader.Close()
}

func (s *Session) mux() upgrade.Mux {
	return upgrade.Mux{
		"GET /download":  s.download,
		"GET /chunk":     s.chunk,
		"GET /speedtest": speedtest,
	}
}

// download answers GET /download with a file as it is stored. From then on
// the client may fetch the chunks of an index.
func (s *Session) download(w http.ResponseWriter, r *http.Request) error {
	p := upgrade.QueryParams(r)
	name := p.Archive("file-name")
	if err := p.Err(); err != nil {
		return err
	}
	if strings.HasSuffix(name, ".blob") {
		b, err := s.reader.Blob(name)
		if err != nil {
			return s.openError(name, err)
		}
		s.task.Logf("handed out %q", name)
		return upgrade.Octets(w, b)
	}
	x, err := s.reader.Index(name)
	if err != nil {
		return s.openError(name, err)
	}
	s.allow(name, x)
	s.task.Logf("handed out %q, whose %d chunks may be read now", name, x.Len())
	return upgrade.Octets(w, x.Bytes())
}

func (s *Session) openError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return upgrade.Errorf(http.StatusNotFound, "open file %q failed - not found", s.req.dir()+"/"+name)
	}
	return err
}

// allow lets the client fetch the chunks of an index.
func (s *Session) allow(name string, x chunks.Index) {
	s.mu.RLock()
	had := s.names[name]
	s.mu.RUnlock()
	if had {
		return // what is in a finished snapshot does not change
	}
	c := newContents(x)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.names[name] {
		if p, ok := s.reader.Chunks().(chunks.Planner); ok {
			c.plan = p.Plan(x)
		}
		s.names[name] = true
		s.indexes = append(s.indexes, c)
	}
}

// find returns an index that has d, and where.
func (s *Session) find(d chunks.Digest) (c *contents, at int, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.indexes {
		if at, ok := c.find(d); ok {
			return c, at, true
		}
	}
	return nil, 0, false
}

// chunk answers GET /chunk with a blob as it is stored.
func (s *Session) chunk(w http.ResponseWriter, r *http.Request) error {
	p := upgrade.QueryParams(r)
	d := p.Digest("digest")
	if err := p.Err(); err != nil {
		return err
	}
	c, at, ok := s.find(d)
	if !ok {
		return upgrade.Errorf(http.StatusUnauthorized, "download chunk %s not allowed", d)
	}
	get := func() (chunks.Blob, *chunks.Buffer, error) { return s.ahead.get(r.Context(), d, c, at) }
	if c.plan != nil {
		get = func() (chunks.Blob, *chunks.Buffer, error) { return c.get(r.Context(), at) }
	}
	blob, buffer, err := get()
	if err != nil {
		s.log.Warn("chunk cannot be read", "digest", d.Short(), "err", err)
		s.task.Warnf("chunk %s cannot be read: %v", d, err)
		err = fmt.Errorf("reading chunk %s failed: %w", d, err)
		if errors.Is(err, chunks.ErrAway) { // else the client takes it for lost
			return &upgrade.Error{Status: http.StatusServiceUnavailable, Err: err}
		}
		return err
	}
	if err := upgrade.Octets(w, blob); err != nil {
		return err // and leave the buffer alone, the connection may hold it
	}
	buffer.Free()
	return nil
}

// speedtestSize is how many bytes GET /speedtest returns, as in PBS.
const speedtestSize = 1 << 20

var speedtestBody = bytes.Repeat([]byte("A"), speedtestSize)

// speedtest answers GET /speedtest, which measures the line.
func speedtest(w http.ResponseWriter, _ *http.Request) error { return upgrade.Octets(w, speedtestBody) }
