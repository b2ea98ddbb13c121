package sessions

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A task is a session that is about to run.
type task struct {
	typ, id string
	serve   func(ctx context.Context, conn net.Conn, t upgrade.Task) error
	drop    func() // ends a session that was not served
}

// run runs a session as a task until it ends. The client gets the 101 when the
// task has been let in, and an answer in HTTP/1.1 if it has not.
func (s *Server) run(c *rest.Call, protocol string, t task) (any, error) {
	// The session outlives nothing but the request's own deadline: it ends
	// with its connection, by [jobs.Manager.Stop] and by [jobs.Manager.Close].
	ctx := context.WithoutCancel(c.Request.Context())
	served, answered := false, false
	_, err := s.cfg.Tasks.Do(ctx, t.typ, t.id, string(c.Who), func(ctx context.Context, job *jobs.Task) error {
		conn, err := upgrade.Handshake(c.Writer, c.Request, protocol)
		if err != nil {
			answered = errors.Is(err, upgrade.ErrTakenOver)
			return err
		}
		served = true
		return t.serve(ctx, conn, job)
	})
	if served {
		return rest.Written, nil // the task says how it ended
	}
	t.drop()
	switch {
	case answered:
		return rest.Written, nil
	case errors.Is(err, jobs.ErrTooMany), errors.Is(err, jobs.ErrClosed):
		return nil, upgrade.Errorf(http.StatusServiceUnavailable, "%w", err)
	}
	return nil, err
}
