package upgrade

import (
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

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
