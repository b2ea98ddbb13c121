package node

import (
	"cmp"
	"context"
	"net"
	"slices"

	"github.com/holdfast-mesh/holdfast/pbs/api/accounts"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/api/trash"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// services are the parts that answer clients.
type services struct {
	stores   *stores.Set
	sessions *sessions.Server
}

// openServices makes what answers clients out of what is open, and opens the
// datastores.
func (n *Node) openServices() error {
	var err error
	n.stores, err = stores.New(stores.Config{Settings: n.settings, Tasks: n.tasks, Scheduler: n.schedules, Log: n.log})
	if err != nil {
		return err
	}
	n.keep(closer(n.stores.Close))
	n.keep(closer(func() error { return n.endTasks(context.Background()) })) // before datastores are closed
	l := n.cfg.Limits
	n.sessions, err = sessions.New(sessions.Config{
		Stores: n.stores, Tasks: n.tasks, Log: n.log, Backup: backup.Config{Verify: n.stores.VerifySoon},
		Backups: l.Backups, Readers: l.Restores, Memory: int64(cmp.Or(l.SessionMemory, 8192)) << 20,
	})
	if err != nil {
		return err
	}
	return n.stores.Open(context.Background())
}

// endpoints are all that the API has.
func (n *Node) endpoints() []rest.Endpoint {
	return slices.Concat(
		accounts.Endpoints(n.access),
		n.sessions.Endpoints(),
		trash.Endpoints(n.stores),
		n.ownEndpoints(),
	)
}

// serviceParts are what of it runs.
func (n *Node) serviceParts() []part {
	return []part{{"datastores", n.stores.Run}}
}

// reloadServices has the services look at settings that were read again.
func (n *Node) reloadServices() error { return n.stores.Sync(context.Background()) }

// limited limits how fast connections are.
func (n *Node) limited(l net.Listener) net.Listener { return l }

// absent are what of the API of PBS is not offered here, and why.
var absent = map[string]string{
	"/access/openid":               "OpenID is not offered: users are those of the realm pbs, who have passwords and API tokens",
	"/access/vncticket":            "There is no console: log in with ssh",
	"/config/acme":                 "ACME is not offered: let certbot or acme.sh write the files that node.toml names, and they are used within a minute",
	"/config/access":               "LDAP, Active Directory and OpenID are not offered",
	"/config/changer":              "Tapes are not offered",
	"/config/drive":                "Tapes are not offered",
	"/config/media-pool":           "Tapes are not offered",
	"/config/tape-backup-job":      "Tapes are not offered",
	"/config/tape-encryption-keys": "Tapes are not offered",
	"/config/notifications":        "Notifications are not offered yet",
	"/config/metrics":              "Metrics are not sent anywhere: have Prometheus fetch /metrics",
	"/tape":                        "Tapes are not offered",
	"/nodes/{node}/apt":            "Packages are those of the operating system: use apt",
	"/nodes/{node}/disks":          "Disks are those of the operating system: make a file system, and a datastore on it",
	"/nodes/{node}/dns":            "The network is that of the operating system",
	"/nodes/{node}/network":        "The network is that of the operating system",
	"/nodes/{node}/services":       "Services are those of the operating system: use systemctl",
	"/nodes/{node}/termproxy":      "There is no console: log in with ssh",
	"/nodes/{node}/vncwebsocket":   "There is no console: log in with ssh",
}
