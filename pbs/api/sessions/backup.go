package sessions

import (
	"context"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// backup answers GET /backup. The order of its refusals is that of §3.1.
func (s *Server) backup(ctx context.Context, c *rest.Call) (any, error) {
	req, err := backup.ParseRequest(c.Params)
	if err != nil {
		return nil, err
	}
	if !c.May(access.PrivDatastoreBackup, place(req.Store, req.Namespace)...) {
		return nil, upgrade.Errorf(http.StatusForbidden, "missing permissions '%s' on '%s'",
			access.PrivDatastoreBackup, placeText(req.Store, req.Namespace))
	}
	if req.Datastore, err = s.find(c, req.Store, true); err != nil {
		return nil, err
	}
	if err := upgrade.Check(c.Request, upgrade.Backup); err != nil {
		return nil, err
	}
	leave, err := s.count.enter(backupKind, req.Store)
	if err != nil {
		return nil, err
	}
	defer leave()
	req.AuthID = string(c.Who)
	session, err := s.backups.Begin(ctx, req)
	if err != nil {
		return nil, err
	}
	typ := "backup"
	if req.Benchmark {
		typ = "benchmark"
	}
	return s.run(c, upgrade.Backup, task{
		typ: typ, id: req.Store + ":" + req.Snapshot.Group.String(),
		serve: session.Serve, drop: func() { s.aborted(session.Abort()) },
	})
}

// aborted notes that a session could not be undone, which the next start does.
func (s *Server) aborted(err error) {
	if err != nil {
		s.log.Error("a backup that did not begin could not be removed", "err", err)
	}
}
