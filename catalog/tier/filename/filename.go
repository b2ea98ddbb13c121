// Package filename tells what the names of files are that a bucket has of a datastore.
package filename

import (
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// Manifest is the name of the file with which a snapshot is there.
const Manifest = "index.json.blob"

// Belong reports whether a name is that of a file of a datastore: nothing that
// a bucket says may be written anywhere else.
func Belong(name string) bool {
	if name == "settings.json" {
		return true
	}
	ns, rest := Space(name)
	parts := strings.Split(rest, "/")
	switch len(parts) {
	case 3:
		_, err := naming.ParseGroup(parts[0] + "/" + parts[1])
		return err == nil && path.Join(ns.Path(), rest) == name && (parts[2] == "owner" || parts[2] == "notes")
	case 4:
		_, file, ok := Snapshot(rest)
		return ok && path.Join(ns.Path(), rest) == name && (file == ".protected" || naming.CheckArchive(file) == nil)
	}
	return false
}

// Space splits the namespace off a name.
func Space(name string) (ns catalog.Namespace, rest string) {
	rest = name
	for {
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) < 3 || parts[0] != "ns" {
			return ns, rest
		}
		child, err := ns.Child(parts[1])
		if err != nil {
			return ns, rest
		}
		ns, rest = child, parts[2]
	}
}

// Snapshot splits the name of a file of a snapshot, below its namespace.
func Snapshot(rest string) (s catalog.Snapshot, file string, ok bool) {
	dir, file := path.Split(rest)
	s, err := naming.ParseSnapshot(strings.TrimSuffix(dir, "/"))
	return s, file, err == nil && s.Path()+"/" == dir
}
