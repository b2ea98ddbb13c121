package backup

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Session is one backup in the making. Make one with [Server.Begin].
type Session struct {
	server *Server
	req    Request
	log    *slog.Logger
	task   upgrade.Task
	writer *catalog.Writer
	base   catalog.Snapshot // the last good one of the group; Time 0: none
	budget *budget

	// finishing is held shared by whatever changes the snapshot, and alone by
	// finish, which comes after all of that.
	finishing sync.RWMutex
	finished  bool

	mu sync.Mutex

	known    map[chunks.Digest]uint32 // length of the content: what an index may name
	indexes  map[int]*index           // open ones, by the number that the client knows them by
	names    map[string]bool          // of open and closed indexes
	lastID   int
	files    int          // closed indexes and blobs
	manifest chunks.Blob  // as it was sent, nil before
	stats    uploadedSums // of closed indexes, and blobs
	toldFull bool         // the task's log says that the disk is full
}

type uploadedSums = manifest.UploadStats

func newSession(s *Server, req Request, w *catalog.Writer) *Session {
	log := s.cfg.Log.With("datastore", req.Store, "snapshot", req.Snapshot.String())
	if req.Namespace != "" {
		log = log.With("ns", string(req.Namespace))
	}
	return &Session{
		server:  s,
		req:     req,
		log:     log,
		task:    upgrade.Unread,
		writer:  w,
		base:    findBase(req, w),
		budget:  newBudget(s.cfg.Memory, &s.pool),
		known:   map[chunks.Digest]uint32{},
		indexes: map[int]*index{},
		names:   map[string]bool{},
	}
}

// findBase returns the last snapshot of the group, unless it failed its
// verification: then all must be sent anew (§3.1).
func findBase(req Request, w *catalog.Writer) catalog.Snapshot {
	last, ok := w.Previous()
	if !ok {
		return catalog.Snapshot{}
	}
	m, err := req.Datastore.Manifest(req.Namespace, last)
	if err != nil {
		return catalog.Snapshot{}
	}
	if v, ok := m.VerifyState(); ok && !v.OK() {
		return catalog.Snapshot{}
	}
	return last
}

// Abort gives up a session that is not served.
func (s *Session) Abort() error { return s.writer.Abort() }

// ErrUnfinished says that a client went before it had finished its backup.
var ErrUnfinished = upgrade.Errorf(http.StatusBadRequest, "backup ended but finished flag is not set.")

// Serve answers the client until the connection ends, and ends the session: a
// backup that is not finished by then leaves nothing but chunks. It fails with
// [ErrUnfinished], and what is known of why; however the connection ends after
// the backup was finished, it is a success (§3.5).
func (s *Session) Serve(ctx context.Context, conn net.Conn, task upgrade.Task) error {
	s.task = task
	s.tellBegin(conn.RemoteAddr())
	renewing, stop := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		s.renew(renewing)
	}()
	ended := upgrade.Serve(ctx, conn, s.mux(), s.server.cfg.Limits)
	stop()
	<-renewed
	return s.end(ended)
}

// end ends the session after all handlers have returned.
func (s *Session) end(ended error) error {
	if s.finished && !s.req.Benchmark {
		s.tellEnd()
		if s.req.Datastore.Settings().VerifyNew {
			s.verify(s.req.Snapshot, "new snapshots are verified")
		}
		return nil
	}
	if err := s.writer.Abort(); err != nil {
		return fmt.Errorf("remove unfinished snapshot %s: %w", s.req.Snapshot, err)
	}
	switch {
	case s.req.Benchmark:
		s.task.Logf("the benchmark has ended, and nothing of it is kept")
		return nil
	case ended != nil:
		return fmt.Errorf("%w %w", ErrUnfinished, ended)
	}
	return ErrUnfinished
}

// verify asks for the verification of a snapshot of the group.
func (s *Session) verify(snap catalog.Snapshot, why string) {
	if s.server.cfg.Verify != nil {
		s.server.cfg.Verify(s.req.Store, s.req.Datastore, s.req.Namespace, snap, why)
	}
}

// renew keeps the lease on the chunks alive while the client says nothing.
func (s *Session) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kept, err := s.writer.Session().Renew()
		switch {
		case err != nil:
			return // it is finished
		case !kept:
			s.log.Warn("the machine slept, or was too busy: chunks may have to be uploaded again")
		}
	}
}

func (s *Session) mux() upgrade.Mux {
	return upgrade.Mux{
		"GET /previous_backup_time": s.previousTime,
		"GET /previous":             s.changing(s.previous),
		"POST /blob":                s.putBlob,
		"POST /fixed_index":         s.changing(s.createFixed),
		"PUT /fixed_index":          s.changing(s.appendFixed),
		"POST /fixed_chunk":         func(w http.ResponseWriter, r *http.Request) error { return s.putChunk(w, r, fixedKind) },
		"POST /fixed_close":         s.changing(s.closeFixed),
		"POST /dynamic_index":       s.changing(s.createDynamic),
		"PUT /dynamic_index":        s.changing(s.appendDynamic),
		"POST /dynamic_chunk":       func(w http.ResponseWriter, r *http.Request) error { return s.putChunk(w, r, dynamicKind) },
		"POST /dynamic_close":       s.changing(s.closeDynamic),
		"POST /finish":              s.finish,
		"POST /speedtest":           speedtest,
	}
}

// changing wraps a handler that takes short, and changes the snapshot. Those
// that wait for a body take the lock by themselves, after that.
func (s *Session) changing(h func(p *upgrade.Params, w http.ResponseWriter, r *http.Request) error) upgrade.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := upgrade.AllParams(r)
		if err != nil {
			return err
		}
		s.finishing.RLock()
		defer s.finishing.RUnlock()
		if s.finished {
			return errFinished
		}
		return h(p, w, r)
	}
}

var errFinished = upgrade.Errorf(http.StatusBadRequest, "backup already marked as finished.")
