package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// ready says why the node cannot do its work, if so.
func (n *Node) ready() error {
	if n.ending.Load() {
		return errors.New("the node is shutting down")
	}
	if n.idle() {
		return n.outdated()
	}
	names, closed := n.stores.Names(), 0
	for _, name := range names {
		if _, err := n.stores.Get(name); err != nil {
			closed++
		}
	}
	if closed > 0 {
		// Whoever asks need not be known, so datastores have no names here.
		return fmt.Errorf("%d of %d datastores are not open: see the log", closed, len(names))
	}
	return nil
}

// health answers /health: 200 if the node does its work, else 503 and why not.
func (n *Node) health(w http.ResponseWriter, _ *http.Request) {
	answer, status := map[string]any{"ready": true, "version": n.cfg.Version}, http.StatusOK
	if err := n.ready(); err != nil {
		answer["ready"], answer["why"], status = false, err.Error(), http.StatusServiceUnavailable
	}
	text, _ := json.Marshal(answer) // plain values
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client has gone
}

// guarded lets in who may look at the system, as an API endpoint would.
func guarded(gate rest.Gate, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := gate.Check(r.Context(), access.Credentials{Method: r.Method, Authorization: r.Header.Get("Authorization")})
		if err != nil {
			w.Header().Set("WWW-Authenticate", "PBSAPIToken")
			http.Error(w, "an API token with the privilege Sys.Audit on /system/status is needed", http.StatusUnauthorized)
			return
		}
		if err := gate.Require(who, access.PrivSysAudit, "system", "status"); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// beside puts the pages that are no API in front of it. PBS has none of them.
func (n *Node) beside(metrics, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			n.health(w, r)
		case "/metrics":
			metrics.ServeHTTP(w, r)
		default:
			if n.idle() && !slices.Contains(answered, strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api2/json"), "/api2/extjs")) {
				w.Header().Set(rest.HintHeader, outdatedHint)
				http.Error(w, n.outdated().Error(), http.StatusServiceUnavailable)
				return
			}
			api.ServeHTTP(w, r)
		}
	})
}

// answered is what a node that is idle answers all the same: what shows how it is.
var answered = []string{"/ping", "/version", "/holdfast/status", "/holdfast/alarms", "/holdfast/doctor"}

const outdatedHint = "upgrade holdfast on this node; do not set anything up anew, all of it is there for the version that was here before"

// outdated says that the ledger of this node is that of a later version; nil if it is not.
func (n *Node) outdated() error {
	if why := n.cluster.Group().Status().Stopped; errors.Is(why, consensus.ErrNeedsUpgrade) {
		return fmt.Errorf("%w: upgrade it; nothing is lost", why)
	}
	return nil
}

// idle tells whether this node is outdated, and knows of no datastore of before that it
// could serve.
func (n *Node) idle() bool { return len(n.settings.State().Datastores) == 0 && n.outdated() != nil }
