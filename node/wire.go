package node

import (
	"context"
	"encoding/pem"
	"errors"
	"maps"
	"net"
	"slices"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/node/audit"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/node/exports"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/node/front"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/offloads"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/node/quotas"
	"github.com/holdfast-mesh/holdfast/node/warden"
	"github.com/holdfast-mesh/holdfast/pbs/api/accounts"
	"github.com/holdfast-mesh/holdfast/pbs/api/cloud"
	"github.com/holdfast-mesh/holdfast/pbs/api/content"
	"github.com/holdfast-mesh/holdfast/pbs/api/export"
	"github.com/holdfast-mesh/holdfast/pbs/api/host"
	"github.com/holdfast-mesh/holdfast/pbs/api/keys"
	"github.com/holdfast-mesh/holdfast/pbs/api/notifications"
	"github.com/holdfast-mesh/holdfast/pbs/api/offload"
	remoteapi "github.com/holdfast-mesh/holdfast/pbs/api/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/api/setup"
	"github.com/holdfast-mesh/holdfast/pbs/api/sync"
	"github.com/holdfast-mesh/holdfast/pbs/api/trash"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/removable"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
)

// services are the parts that answer clients.
type services struct {
	clouds   *s3.Clients
	stores   *stores.Set
	sessions *sessions.Server
	machine  *history.Machine
	history  *history.Recorder
	traffic  *traffic.Limiter
	disks    *removable.Disks
	pulls    *pulls.Pulls
	offloads *offloads.Offloads
	exports  *exports.Exports
	accounts *quotas.Quotas
}

// openServices makes what answers clients out of what is open, and opens the
// datastores.
func (n *Node) openServices() error {
	var err error
	if n.clouds, err = s3.Open(n.settings, n.cfg.at(cloudFile)); err != nil {
		return err
	}
	n.keep(n.clouds)
	table := removable.NewTable()
	n.stores, err = stores.New(stores.Config{
		Settings: n.settings, Tasks: n.tasks, Scheduler: n.schedules, Clouds: n.clouds, Node: n.cfg.Name, Log: n.log,
		Changed: n.changed, Corrupt: n.corrupt, Warden: n.warden, Claim: n.shares.ClaimBucket, Agreed: n.cluster.Agreed, Away: table.Away,
	})
	if err != nil {
		return err
	}
	n.disks, err = removable.New(removable.Config{Settings: n.settings, Stores: n.stores, Tasks: n.tasks, Table: table, Log: n.log})
	if err != nil {
		return err
	}
	n.keep(closer(n.stores.Close))
	n.keep(closer(func() error { return n.endTasks(context.Background()) })) // before datastores are closed
	n.feeds.Attach(feeds.Here{Set: n.stores, Tasks: n.tasks})
	l := n.cfg.Limits
	n.sessions, err = sessions.New(sessions.Config{
		Stores: n.stores, Tasks: n.tasks, Log: n.log, Backup: backup.Config{Verify: n.stores.VerifySoon},
		Backups: l.Backups, Readers: l.Restores, Memory: l.memory(),
		Drafted: func(store string) string {
			return members.MakesStore(n.cluster.Undecided(), n.cluster.Self(), store)
		},
	})
	if err != nil {
		return err
	}
	n.machine, n.traffic = &history.Machine{}, traffic.New()
	n.history, err = history.New(history.Config{
		File: n.cfg.at(figuresFile), Sample: host.Sample(n.machine, n.stores, n.cfg.Dir), Log: n.log,
	})
	if err != nil {
		return err
	}
	if err := n.traffic.Follow(n.settings); err != nil {
		n.log.Warn("traffic rules are not in force", "err", err)
	}
	if err := n.openPulls(); err != nil {
		return err
	}
	n.offloads, err = offloads.New(offloads.Config{Settings: n.settings, Stores: n.stores, Scheduler: n.schedules, Log: n.log})
	if err != nil {
		return err
	}
	n.exports, err = exports.New(exports.Deps{Settings: n.settings, Stores: n.stores, Scheduler: n.schedules, Keys: n.keyring().Decrypts, Log: n.log})
	if err != nil {
		return err
	}
	if err := n.openAccounts(); err != nil {
		return err
	}
	return n.stores.Open(context.Background())
}

// openAccounts opens what divides S3 accounts among nodes.
func (n *Node) openAccounts() (err error) {
	n.accounts, err = quotas.New(quotas.Config{
		Self: n.cluster.Self(), Nodes: func() []quotas.Node { return quotas.Members(n.cluster, n.reached()) },
		Ledger: quotas.Rows{Cluster: n.cluster}, Asked: n.clouds.Asked, Share: n.clouds.Share, Log: n.log,
	})
	return err
}

// endpoints are all that the API has.
func (n *Node) endpoints() []rest.Endpoint {
	return slices.Concat(
		accounts.Endpoints(n.access),
		n.sessions.Endpoints(),
		content.Endpoints(content.Config{Stores: n.stores, Accounts: n.access}),
		setup.Endpoints(setup.Config{Settings: n.settings, Stores: n.stores, Place: n.disks.Place}),
		trash.Endpoints(n.stores),
		cloud.Endpoints(cloud.Config{Settings: n.settings, Clients: n.clouds, Stores: n.stores}),
		host.Endpoints(host.Config{
			Stores: n.stores, Tasks: n.tasks, History: n.history, Machine: n.machine,
			GCStatus:    func(store string) (any, error) { return n.stores.GCStatus(store) },
			Certificate: n.shownCertificate, Root: n.cfg.Dir, Identity: n.identity, Build: n.cfg.Version, Log: n.log,
		}),
		remoteapi.Endpoints(remoteapi.Config{Settings: n.settings, Secrets: n.secrets, Vault: n.vault()}),
		notifications.Endpoints(notifications.Config{Settings: n.settings, Secrets: n.secrets, Teller: n.notices}),
		traffic.Endpoints(n.settings, n.traffic),
		warden.Endpoints(n.cluster, n.cluster.LedgerAge),
		sync.Endpoints(sync.Config{Settings: n.settings, Runner: syncRunner{n.pulls, n.settings}, Of: n.settingsOf, Key: n.keyring().Archived}),
		keys.Endpoints(n.keyring()),
		offload.Endpoints(offload.Config{Settings: n.settings, Runner: n.offloads}),
		export.Endpoints(export.Config{Settings: n.settings, Runner: n.exports}),
		n.pulls.Endpoints(),
		n.disks.Endpoints(),
		rules.Endpoints(rules.Config{Settings: n.settings, Scheduler: n.schedules, Claims: n.shares.Claims, Plan: n.plans().Of, Calendar: n.calendar, Follow: func(ctx context.Context) error {
			return errors.Join(n.stores.Sync(ctx), n.pulls.Sync(ctx), n.offloads.Sync(ctx), n.exports.Sync(ctx))
		}}),
		members.Endpoints(n.membership()),
		audit.Endpoints(n.cluster),
		n.ownEndpoints(),
	)
}

// serviceParts are what of it runs.
func (n *Node) serviceParts() []part {
	return []part{{"datastores", n.stores.Run}, {"removable disks", n.disks.Run}, {"history", n.history.Run}, {"copies", n.pulls.Run}, {"offloads", n.offloads.Run}, {"exports", n.exports.Run}, {"S3 usage", n.clouds.Run}, {"S3 quotas", n.accounts.Run}}
}

// reloadServices has the services look at settings that were read again.
func (n *Node) reloadServices() error {
	ctx := context.Background()
	return errors.Join(n.stores.Sync(ctx), n.traffic.Follow(n.settings), n.pulls.Sync(ctx), n.offloads.Sync(ctx))
}

// limited limits how fast connections are.
func (n *Node) limited(l net.Listener) net.Listener { return n.traffic.Listen(l) }

// known tells the limits of traffic whose connection it is.
func (n *Node) known(ctx context.Context, who access.AuthID) {
	if c, ok := front.Below(ctx).(*traffic.Conn); ok {
		c.SetUser(string(who))
	}
}

// shownCertificate is what the API shows of the certificate.
func (n *Node) shownCertificate() host.Certificate {
	leaf := n.certificate.Leaf()
	return host.Certificate{
		File: "proxy.pem", Fingerprint: certificate.Fingerprint(leaf), Issuer: leaf.Issuer.String(), Subject: leaf.Subject.String(),
		NotBefore: leaf.NotBefore.Unix(), NotAfter: leaf.NotAfter.Unix(), KeyType: leaf.PublicKeyAlgorithm.String(), Names: certificate.Names(leaf),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
	}
}

// allAbsent adds to absent what the parts of the API say of themselves.
func allAbsent() map[string]string {
	all := setup.Absent()
	maps.Copy(all, absent)
	maps.Copy(all, notifications.Absent())
	return all
}

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
	"/config/metrics":              "Metrics are not sent anywhere: have Prometheus fetch /metrics",
	"/tape":                        "Tapes are not offered",
	"/admin/metrics":               "Metrics are not sent anywhere: have Prometheus fetch /metrics",
	"/nodes/{node}/config":         "The node is set up in node.toml",
	"/nodes/{node}/journal":        "The log is that of the service: use journalctl -u holdfast",
	"/nodes/{node}/report":         "There are no reports: see the log of the service and /metrics",
	"/nodes/{node}/syslog":         "The log is that of the service: use journalctl -u holdfast",
	"/nodes/{node}/apt":            "Packages are those of the operating system: use apt",
	"/nodes/{node}/disks":          "Disks are those of the operating system: make a file system, and a datastore on it",
	"/nodes/{node}/dns":            "The network is that of the operating system",
	"/nodes/{node}/network":        "The network is that of the operating system",
	"/nodes/{node}/services":       "Services are those of the operating system: use systemctl",
	"/nodes/{node}/termproxy":      "There is no console: log in with ssh",
	"/nodes/{node}/vncwebsocket":   "There is no console: log in with ssh",
}
