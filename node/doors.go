package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/front"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// local is the gate of the admin socket: whoever gets there is root@pam.
type local struct{ *access.Service }

func (local) Check(context.Context, access.Credentials) (access.AuthID, error) {
	return access.Root, nil
}

// openDoors opens the ways in: the address for clients, the admin socket, and
// the address for monitors.
func (n *Node) openDoors() error {
	m, err := metrics.New(metrics.Config{
		Version: n.cfg.Version, Name: n.cfg.Name, Site: n.cfg.Site,
		Stores: n.stores, Tasks: n.tasks, Sessions: n.sessions.Active, Ready: n.ready, Mesh: n.figures,
		Certificate: n.certificate.Leaf, Health: n.findings, Bills: n.bills,
		Connections: func() (open, refused int) { return n.front.Open() },
	})
	if err != nil {
		return err
	}
	outside, err := n.router(n.access, m)
	if err != nil {
		return err
	}
	inside, err := n.router(local{n.access}, m)
	if err != nil {
		return err
	}
	l, err := listen("listen", n.cfg.Listen)
	if err != nil {
		return err
	}
	n.address = l.Addr()
	n.keep(ignoreClosed{l})
	n.front, err = front.New(front.Config{
		Listener: n.limited(l), Handler: n.beside(guarded(n.access, m), outside),
		Certificate: n.certificate.Get, MinVersion: n.cfg.minVersion(),
		Conns: n.cfg.Limits.Connections, PerSource: n.cfg.Limits.ConnectionsPerSource, Log: n.log,
	})
	if err != nil {
		return err
	}
	if n.admin, err = admin.Listen(admin.Config{Dir: n.cfg.Dir, Handler: n.beside(m, inside), Log: n.log}); err != nil {
		return err
	}
	n.keep(ignoreClosed{n.admin})
	return n.openMonitor(m)
}

// router makes the API for those that a gate lets in.
func (n *Node) router(gate rest.Gate, m *metrics.Metrics) (*rest.Router, error) {
	return rest.New(rest.Config{Gate: gate, Endpoints: inTheNameOf(n.endpoints()), Absent: allAbsent(), Observe: m.Observe, Known: n.known, Log: n.log})
}

// inTheNameOf has the ledger note whose call changed it.
func inTheNameOf(all []rest.Endpoint) []rest.Endpoint {
	for i, e := range all {
		all[i].Handle = func(ctx context.Context, c *rest.Call) (any, error) {
			return e.Handle(actor.With(ctx, string(c.Who), c.Source()), c)
		}
	}
	return all
}

// openMonitor opens the address for monitors, if there is to be one.
func (n *Node) openMonitor(m http.Handler) error {
	if n.cfg.MetricsListen == "" {
		return nil
	}
	l, err := listen("metrics-listen", n.cfg.MetricsListen)
	if err != nil {
		return err
	}
	n.keep(ignoreClosed{l})
	n.monitoring = l
	n.monitor = &http.Server{
		Handler: n.beside(m, http.NotFoundHandler()), ReadTimeout: 20 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	return nil
}

// runMonitor answers monitors until ctx ends.
func (n *Node) runMonitor(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- n.monitor.Serve(n.monitoring) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	n.monitor.Close() // whoever asks for figures asks again
	<-served
	return nil
}

// listen binds an address. The error says which option it comes from.
func listen(option, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	err = fmt.Errorf("%s %s: %w", option, address, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &hinted{err, "another program has that address, perhaps a Proxmox Backup Server: see `ss -ltnp`, or change " + option + " in " + ConfigFile}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, &hinted{err, "this machine has no such address: see `ip address`, or change " + option + " in " + ConfigFile}
	}
	return nil, err
}

// ignoreClosed closes what whoever ran it may have closed.
type ignoreClosed struct{ c interface{ Close() error } }

func (i ignoreClosed) Close() error {
	if err := i.c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
