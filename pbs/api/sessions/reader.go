package sessions

import (
	"context"
	"fmt"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/reader"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// reader answers GET /reader. The order of its refusals is that of §4.1.
func (s *Server) reader(ctx context.Context, c *rest.Call) (any, error) {
	req, err := reader.ParseRequest(c.Params)
	if err != nil {
		return nil, err
	}
	where := place(req.Store, req.Namespace)
	if !c.May(access.PrivDatastoreRead|access.PrivDatastoreBackup, where...) {
		return nil, upgrade.Errorf(http.StatusBadRequest, "no permissions on %s", placeText(req.Store, req.Namespace))
	}
	if req.Datastore, err = s.find(c, req.Store, false); err != nil {
		return nil, err
	}
	if err := upgrade.Check(c.Request, upgrade.Reader); err != nil {
		return nil, err
	}
	if !c.May(access.PrivDatastoreRead, where...) && !owns(c.Who, req.Datastore, req.Namespace, req.Snapshot.Group) {
		return nil, upgrade.Errorf(http.StatusBadRequest, "backup owner check failed!")
	}
	leave, err := s.count.enter(readerKind, req.Store)
	if err != nil {
		return nil, err
	}
	defer leave()
	req.AuthID = string(c.Who)
	session, err := s.readers.Open(ctx, req)
	if err != nil {
		return nil, err
	}
	snap := req.Snapshot
	return s.run(c, upgrade.Reader, task{
		typ: "reader", id: fmt.Sprintf("%s:%s/%08X", req.Store, snap.Group, snap.Time),
		serve: session.Serve, drop: session.Close,
	})
}
