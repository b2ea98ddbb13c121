package node

import (
	"cmp"
	"context"
	"net"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/pbs/api/accounts"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// services are the parts that answer clients.
type services struct {
	stores   Stores
	sessions *sessions.Server
}

type Stores interface {
	Names() []string
	Get(name string) (*catalog.Datastore, error)
}

type none struct{}

func (none) Names() []string { return nil }
func (none) Get(name string) (*catalog.Datastore, error) {
	return nil, upgrade.Errorf(400, "no such datastore '%s'", name)
}

// openServices makes what answers clients out of what is open.
func (n *Node) openServices() error {
	n.stores = none{}
	l := n.cfg.Limits
	var err error
	n.sessions, err = sessions.New(sessions.Config{
		Stores: n.stores, Tasks: n.tasks, Log: n.log,
		Backups: l.Backups, Readers: l.Restores, Memory: int64(cmp.Or(l.SessionMemory, 8192)) << 20,
	})
	return err
}

// endpoints are all that the API has.
func (n *Node) endpoints() []rest.Endpoint {
	var all []rest.Endpoint
	for _, some := range [][]rest.Endpoint{
		accounts.Endpoints(n.access),
		n.sessions.Endpoints(),
	} {
		all = append(all, some...)
	}
	return all
}

// absent are what of the API of PBS is not offered here, and why.
var absent = map[string]string{}

func (n *Node) serviceParts() []part { return nil }

func (n *Node) reloadServices() error { return nil }

func (n *Node) limited(l net.Listener) net.Listener { return l }

var _ = context.Background
