package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// previousTime answers GET /previous_backup_time.
func (s *Session) previousTime(w http.ResponseWriter, _ *http.Request) error {
	if s.base.Time == 0 {
		return upgrade.Data(w, nil)
	}
	return upgrade.Data(w, s.base.Time)
}

// previous answers GET /previous: with a file of the last backup. The chunks
// of an index may then be named without sending them, for the client has just
// shown that it wants to know them, and may read that snapshot anyway.
func (s *Session) previous(p *upgrade.Params, w http.ResponseWriter, r *http.Request) error {
	name := p.Archive("archive-name")
	switch {
	case p.Err() != nil:
		return p.Err()
	case s.base.Time == 0:
		return errors.New("no valid previous backup")
	case strings.HasSuffix(name, ".blob"):
		b, err := s.req.Datastore.ReadBlob(s.req.Namespace, s.base, name)
		if err != nil {
			return s.openError(name, err)
		}
		s.task.Logf("handed out %q of the last backup", name)
		return upgrade.Octets(w, b)
	}
	x, err := s.baseIndex(r.Context(), name)
	switch {
	case err != nil:
		return err
	case x == nil:
		return s.openError(name, fs.ErrNotExist)
	}
	s.learn(x)
	s.task.Logf("handed out %q of the last backup, whose %d chunks may be named now", name, x.Len())
	return upgrade.Octets(w, x.Bytes())
}

func (s *Session) openError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return upgrade.Errorf(http.StatusNotFound, "open file %q failed - not found", path.Join(s.req.Store, s.req.Namespace.Path(), s.base.String(), name))
	}
	return err
}

// baseIndex returns an index of the last backup after making sure that its
// chunks are here, and stay. It returns nil if there is none of that name.
//
// PBS makes no such check, and a client that builds on what is not there has a
// backup that nobody can restore. One that gets an error here sends everything
// anew, which mends the store.
func (s *Session) baseIndex(ctx context.Context, name string) (chunks.Index, error) {
	x, err := s.writer.PreviousIndex(name)
	if err != nil || x == nil {
		return nil, err
	}
	missing, err := s.lacking(ctx, x)
	switch {
	case err != nil:
		return nil, err
	case missing > 0:
		s.log.Warn("index of the last backup is no base: chunks are missing", "archive", name, "base", s.base.String(), "missing", missing)
		s.task.Warnf("%q of the last backup lacks %d chunks, and is not built on: everything is sent again", name, missing)
		s.verify(s.base, fmt.Sprintf("%d chunks of %s are missing", missing, name))
		return nil, fmt.Errorf("cannot build on %s of %s: %d of its chunks are missing", name, s.base, missing)
	}
	return x, nil
}

// lookupBatch is how many digests are looked up at a time, 256 KiB of them.
const lookupBatch = 8192

// lacking counts the chunks of x that are not here, and pins the others.
func (s *Session) lacking(ctx context.Context, x chunks.Index) (missing int, err error) {
	batch := make([]chunks.Digest, 0, min(lookupBatch, x.Len()))
	for i, d := range x.All() {
		batch = append(batch, d)
		if len(batch) < lookupBatch && i < x.Len()-1 {
			continue
		}
		lost, err := s.writer.Session().Missing(ctx, batch)
		if err != nil {
			return 0, err
		}
		missing += len(lost)
		batch = batch[:0]
	}
	return missing, nil
}

// learn makes the chunks of x known, with their lengths.
func (s *Session) learn(x chunks.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range x.All() {
		start, end := x.Range(i)
		s.known[d] = uint32(end - start)
	}
}
