package upgrade

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// A Task is where a session writes what whoever looks for the reason of a
// failure will read: a task of package jobs.
type Task interface {
	Logf(format string, args ...any)
	Warnf(format string, args ...any)
}

// Unread is a [Task] that nobody reads.
var Unread Task = unread{}

type unread struct{}

func (unread) Logf(string, ...any)  {}
func (unread) Warnf(string, ...any) {}

// InService fails, in the words of PBS, if the datastore called store is in a
// state of maintenance in which it cannot be read or, with write, written.
func InService(store string, d *catalog.Datastore, write bool) error {
	m := d.Settings().Maintenance
	if m.Mode == catalog.InService || m.Mode == catalog.ReadOnly && !write {
		return nil
	}
	text := fmt.Sprintf("datastore '%s' is in %s maintenance mode: %s", store, m.Mode, m.Message)
	return Errorf(http.StatusBadRequest, "%s", strings.TrimSuffix(text, ": "))
}

// Store returns the parameter that names a datastore.
func (p *Params) Store() string {
	return Parsed(p, "store", func(name string) (string, error) { return name, naming.CheckStoreName(name) })
}

// Namespace returns the namespace, the root if there is no such parameter.
func (p *Params) Namespace() naming.Namespace {
	if !p.Has("ns") {
		return ""
	}
	return Parsed(p, "ns", naming.ParseNamespace)
}

// Snapshot returns the snapshot that three parameters name.
func (p *Params) Snapshot() naming.Snapshot {
	return naming.Snapshot{
		Group: naming.Group{
			Type: Parsed(p, "backup-type", naming.ParseType),
			ID:   Parsed(p, "backup-id", func(id string) (string, error) { return id, naming.CheckID(id) }),
		},
		Time: p.Int("backup-time", 1, naming.MaxTime),
	}
}

// Archive returns a parameter that names a file of a snapshot.
func (p *Params) Archive(name string) string {
	return Parsed(p, name, func(file string) (string, error) { return file, naming.CheckArchive(file) })
}
