// Package setup has the endpoints about what an operator sets up: datastores
// and the jobs on them (/config/datastore, /config/prune, /config/verify), and
// how these jobs stand (/admin/prune, /admin/verify, /admin/gc; PBS protocol
// notes §7.3, §7.4).
package setup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what the endpoints work on.
type Config struct {
	Settings settings.Store // required
	Stores   *stores.Set    // required; follows Settings

	// Place says where the file system of a removable datastore is mounted, and has it
	// mounted. Default: there are no removable disks.
	Place func(context.Context, *settings.Datastore) error
}

type api struct{ Config }

const (
	audit    = access.PrivDatastoreAudit
	modify   = access.PrivDatastoreModify
	allocate = access.PrivDatastoreAllocate
	verify   = access.PrivDatastoreVerify
	backup   = access.PrivDatastoreBackup
)

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	const store = "/config/datastore/{name}"
	const acl = "/datastore/{name}"
	return []rest.Endpoint{
		{Method: get, Path: "/config/datastore", Handle: a.datastores},
		{Method: post, Path: "/config/datastore", Need: rest.Any(allocate, "/datastore"), Handle: a.addDatastore},
		{Method: get, Path: store, Need: rest.Any(audit, acl), Handle: a.datastore},
		{Method: put, Path: store, Need: rest.Any(modify, acl), Handle: a.changeDatastore},
		{Method: del, Path: store, Need: rest.Any(allocate, acl), Handle: a.removeDatastore},

		{Method: get, Path: "/config/prune", Handle: a.pruneJobs},
		{Method: post, Path: "/config/prune", Handle: a.addPruneJob},
		{Method: get, Path: "/config/prune/{id}", Handle: a.pruneJob},
		{Method: put, Path: "/config/prune/{id}", Handle: a.changePruneJob},
		{Method: del, Path: "/config/prune/{id}", Handle: a.removePruneJob},
		{Method: get, Path: "/admin/prune", Handle: a.pruneStatus},
		{Method: post, Path: "/admin/prune/{id}/run", Handle: a.runPruneJob},

		{Method: get, Path: "/config/verify", Handle: a.verifyJobs},
		{Method: post, Path: "/config/verify", Handle: a.addVerifyJob},
		{Method: get, Path: "/config/verify/{id}", Handle: a.verifyJob},
		{Method: put, Path: "/config/verify/{id}", Handle: a.changeVerifyJob},
		{Method: del, Path: "/config/verify/{id}", Handle: a.removeVerifyJob},
		{Method: get, Path: "/admin/verify", Handle: a.verifyStatus},
		{Method: post, Path: "/admin/verify/{id}/run", Handle: a.runVerifyJob},

		{Method: get, Path: "/admin/gc", Handle: a.gc},
		{Method: get, Path: "/admin/gc/{store}", Handle: a.gc},
	}
}

// withDigest answers with what may be changed, and the digest that tells
// whether somebody else has.
func withDigest(data any, digest string) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": digest}}
}

// Absent returns what a Proxmox Backup Server has in these places and this one
// has not, for [rest.Config].
func Absent() map[string]string {
	const once = "Nothing is copied without a job: make one, and run it"
	return map[string]string{
		"/pull": once,
		"/push": once,
	}
}

func noSuch(kind, id string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such %s '%s'", kind, id)
}

func jobID(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

// event reads a calendar event; "" is none.
func event(p *upgrade.Params, name string) string {
	return upgrade.Parsed(p, name, func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		_, err := jobs.ParseEvent(text)
		return text, err
	})
}

// comment reads a line of text.
func comment(p *upgrade.Params, name string) string {
	return upgrade.Parsed(p, name, func(text string) (string, error) {
		switch {
		case len([]rune(text)) > 128:
			return "", errors.New("value may only be 128 characters long")
		case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return "", errors.New("value does not match the regex pattern")
		}
		return text, nil
	})
}

// digestParam reads the digest of what the caller wants to change, if it came.
func digestParam(p *upgrade.Params) string {
	if !p.Has("digest") {
		return ""
	}
	return upgrade.Parsed(p, "digest", func(text string) (string, error) {
		if b, err := hex.DecodeString(text); err != nil || len(b) != sha256.Size {
			return "", errors.New("value does not match the regex pattern")
		}
		return text, nil
	})
}

// number reads a number that need not be there.
func number(p *upgrade.Params, name string, low, high int64) *int {
	return upgrade.Maybe(p, name, func(name string) int { return int(p.Int(name, low, high)) })
}

func maxDepth(p *upgrade.Params) *int { return number(p, "max-depth", 0, naming.MaxDepth) }

// keepNames are the options that say how many backups a job keeps.
var keepNames = []string{"keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"}

// setKeep sets those of them that came.
func setKeep(p *upgrade.Params, j *settings.PruneJob) {
	for i, field := range keepFields(j) {
		if name := keepNames[i]; p.Has(name) {
			*field = int(p.Int(name, 1, math.MaxInt32))
		}
	}
}

func keepFields(j *settings.PruneJob) []*int {
	return []*int{&j.Last, &j.Hourly, &j.Daily, &j.Weekly, &j.Monthly, &j.Yearly}
}
