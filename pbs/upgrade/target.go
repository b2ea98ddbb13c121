package upgrade

import (
	"errors"
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
	return Parsed(p, "store", ParseStore)
}

// errPattern is what PBS says of a name that is none.
var errPattern = errors.New("value does not match the regex pattern")

// ParseStore reads the name of a datastore, or of a job, in the words of PBS.
func ParseStore(name string) (string, error) {
	switch {
	case len(name) < 3:
		return "", errors.New("value must be at least 3 characters long")
	case len(name) > 32:
		return "", errors.New("value may only be 32 characters long")
	case naming.CheckStoreName(name) != nil:
		return "", errPattern
	}
	return name, nil
}

// Namespace returns the namespace, the root if there is no such parameter.
func (p *Params) Namespace() naming.Namespace {
	return p.NamespaceIn("ns")
}

// NamespaceIn is Namespace for a parameter of another name.
func (p *Params) NamespaceIn(name string) naming.Namespace {
	if !p.Has(name) {
		return ""
	}
	ns, err := naming.ParseNamespace(p.Text(name))
	switch {
	case err == nil:
	case tooDeep(p.Text(name)):
		p.Fail("", "invalid value: string %q, expected valid backup namespace", p.Text(name))
	default:
		p.Fail(name, "%v", errPattern)
	}
	return ns
}

// tooDeep tells whether a text is a namespace but for one level too many, of
// which PBS speaks in other words.
func tooDeep(text string) bool {
	i := strings.LastIndexByte(text, '/')
	if i < 0 || naming.CheckID(text[i+1:]) != nil {
		return false
	}
	ns, err := naming.ParseNamespace(text[:i])
	return err == nil && ns.Depth() == naming.MaxDepth
}

// Snapshot returns the snapshot that three parameters name.
func (p *Params) Snapshot() naming.Snapshot {
	return naming.Snapshot{
		Group: p.Group(),
		Time:  p.Int("backup-time", 1, naming.MaxTime),
	}
}

// Group returns the group that two parameters name.
func (p *Params) Group() naming.Group { return naming.Group{Type: p.Type(), ID: p.ID()} }

// Type returns the type of a backup.
func (p *Params) Type() naming.Type {
	return Parsed(p, "backup-type", func(text string) (naming.Type, error) {
		t, err := naming.ParseType(text)
		if err != nil {
			return t, Errorf(http.StatusBadRequest, "value '%s' is not defined in the enumeration.", text)
		}
		return t, nil
	})
}

// ID returns the ID of a group.
func (p *Params) ID() string {
	return Parsed(p, "backup-id", func(id string) (string, error) {
		if naming.CheckID(id) != nil {
			return "", errPattern
		}
		return id, nil
	})
}

// Archive returns a parameter that names a file of a snapshot.
func (p *Params) Archive(name string) string {
	return Parsed(p, name, func(file string) (string, error) { return file, naming.CheckArchive(file) })
}
