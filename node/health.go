package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// ready says why the node cannot do its work, if so.
func (n *Node) ready() error {
	if n.ending.Load() {
		return errors.New("the node is shutting down")
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
			api.ServeHTTP(w, r)
		}
	})
}
