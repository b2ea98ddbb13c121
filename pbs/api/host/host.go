// Package host has the endpoints about the machine and what it is doing: its
// version, tasks, load, how full datastores are, and figures over time (PBS
// protocol notes §1.4, §7.8-7.10).
package host

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// The version that clients are told. They do not look at more than the first
// numbers: from 3.2.11 on a server answers removals with counts and knows
// error-on-protected, from 4.0 on it has both and takes parameters of newer
// clients, which is what is offered here.
const (
	version = "4.1"
	release = "1"
)

// Stores are the datastores of the node.
type Stores interface {
	Names() []string
	Room(name string) (disk.Space, error)
	MountStatus(name string) string // in the words of PBS
}

// Config says what the endpoints answer about.
type Config struct {
	Stores  Stores            // required
	Tasks   *jobs.Manager     // required
	History *history.Recorder // required
	Machine *history.Machine  // required

	// GCStatus returns what PBS shows of the last garbage collection of a
	// datastore; required.
	GCStatus func(store string) (any, error)

	// Certificate describes the one that is in use, its fingerprint apart.
	Certificate func() (info Certificate)

	Root     string // a directory on the file system that the node's data is on
	Identity string // 32 hexadecimal digits that are this node's for ever
	Build    string // version of this program
	Log      *slog.Logger
}

// A Certificate is what the API shows of one.
type Certificate struct {
	File        string   `json:"filename"`
	Fingerprint string   `json:"fingerprint"`
	Issuer      string   `json:"issuer"`
	Subject     string   `json:"subject"`
	NotAfter    int64    `json:"notafter"`
	NotBefore   int64    `json:"notbefore"`
	PEM         string   `json:"pem"`
	KeyType     string   `json:"public-key-type"`
	Names       []string `json:"san"`
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	a := &api{cfg}
	const (
		node  = "/nodes/{node}"
		tasks = node + "/tasks"
		task  = tasks + "/{upid}"
	)
	get, del := http.MethodGet, http.MethodDelete
	audit := rest.Any(access.PrivSysAudit, "/system/status")
	return []rest.Endpoint{
		{Method: get, Path: "/version", Handle: a.version},
		{Method: get, Path: "/ping", Need: rest.World, Handle: a.ping},
		{Method: get, Path: "/nodes", Need: audit, Handle: a.nodes},
		{Method: get, Path: node + "/status", Need: audit, Handle: a.status},
		{Method: get, Path: node + "/identity", Handle: a.identity},
		{Method: get, Path: node + "/time", Handle: a.time},
		{Method: get, Path: node + "/subscription", Handle: a.subscription},
		{Method: get, Path: node + "/certificates/info", Need: rest.Any(access.PrivSysAudit, "/system/certificates"), Handle: a.certificates},
		{Method: get, Path: node + "/rrd", Need: audit, Handle: a.nodeFigures},
		{Method: get, Path: tasks, Handle: a.tasks},
		{Method: get, Path: task + "/status", Handle: a.taskStatus},
		{Method: get, Path: task + "/log", Handle: a.taskLog},
		{Method: del, Path: task, Handle: a.stopTask},
		{Method: get, Path: "/status/datastore-usage", Handle: a.usage},
		{Method: get, Path: "/status/metrics", Handle: a.metrics},
		{Method: get, Path: "/admin/datastore/{store}/rrd", Handle: a.storeFigures},
	}
}

func (a *api) version(context.Context, *rest.Call) (any, error) {
	return map[string]string{"version": version, "release": release, "repoid": "holdfast-" + a.Build}, nil
}

func (a *api) ping(context.Context, *rest.Call) (any, error) {
	return map[string]bool{"pong": true}, nil
}

// nodes has the one name that clients use; any other is taken for it too.
func (a *api) nodes(context.Context, *rest.Call) (any, error) {
	return []map[string]string{{"node": "localhost"}}, nil
}

func (a *api) identity(context.Context, *rest.Call) (any, error) {
	return map[string]string{"pbs-instance-id": a.Identity}, nil
}

func (a *api) time(context.Context, *rest.Call) (any, error) {
	now := time.Now()
	_, offset := now.Zone()
	return map[string]any{"time": now.Unix(), "localtime": now.Unix() + int64(offset), "timezone": zone(now)}, nil
}

// zone is the name of the machine's time zone: what TZ says, or where
// /etc/localtime leads, as the tzdata package has it.
func zone(now time.Time) string {
	if name := now.Location().String(); name != "Local" {
		return name
	}
	target, _ := os.Readlink("/etc/localtime")
	if _, name, ok := strings.Cut(target, "zoneinfo/"); ok {
		return name
	}
	return "UTC"
}

// subscription says that none is needed, in the way that monitors understand.
func (a *api) subscription(context.Context, *rest.Call) (any, error) {
	return map[string]string{"status": "notfound", "message": "Holdfast has no subscriptions"}, nil
}

func (a *api) certificates(context.Context, *rest.Call) (any, error) {
	if a.Certificate == nil {
		return []Certificate{}, nil
	}
	return []Certificate{a.Certificate()}, nil
}
