// Package naming knows what backups are called.
//
// A [Snapshot] is one backup of one moment: "vm/100/2024-01-02T03:04:05Z". All
// snapshots of one machine form a [Group], "vm/100", and groups lie in a
// [Namespace], "customers/acme", or in the root, whose name is empty.
// [Filters] choose groups for jobs.
//
// Names come from clients, peers and disks and become paths, so each has
// exactly one spelling, and none that this package lets pass leaves the
// directory it is put in. The grammar is that of PBS (PBS protocol notes §0.5).
// The package is pure: it reads no disk and imports nothing else of ours.
package naming

import (
	"fmt"
	"strings"
)

// Lengths of names, in bytes unless said otherwise.
const (
	MaxName      = 255 // a backup ID or file, which is one entry of a directory
	MaxNamespace = 256 // a namespace with its slashes
	MaxDepth     = 7   // components of a namespace
	MaxComponent = 32  // a component of a namespace that is made anew

	minStore, maxStore = 3, 32
	minRealm, maxRealm = 2, 32
	minUser, maxUser   = 3, 64 // characters, realm included
	minToken, maxToken = 3, 64
)

// An Error says which name breaks which rule.
type Error struct {
	What string // "backup ID", "namespace"
	Name string // as it was given
	Why  string // "has no type"
	Cure string // what a valid name looks like; may be empty
}

// Error shows at most 100 characters of the name, for it may come from anywhere.
func (e *Error) Error() string { return fmt.Sprintf("%s %.100q %s", e.What, e.Name, e.Why) }

// Hint is printed on its own line below the error.
func (e *Error) Hint() string { return e.Cure }

const safeCure = `use letters, digits, "_", "-" and ".", and begin with a letter, a digit or "_"`

// checkSafe checks a safe id, ^[A-Za-z0-9_][A-Za-z0-9._-]*$, of shortest to
// longest bytes. Such a name is neither "." nor "..", is no flag of a command
// line and no hidden file.
func checkSafe(what, name string, shortest, longest int) error {
	fail := func(format string, args ...any) error {
		return &Error{what, name, fmt.Sprintf(format, args...), safeCure}
	}
	switch {
	case name == "":
		return fail("is empty")
	case len(name) < shortest:
		return fail("has %d characters, want at least %d", len(name), shortest)
	case len(name) > longest:
		return fail("has %d bytes, want at most %d", len(name), longest)
	case name[0] == '.' || name[0] == '-':
		return fail("begins with %q", name[0])
	}
	for i, r := range name {
		if !isSafe(r) {
			return fail("has %q at byte %d", r, i)
		}
	}
	return nil
}

func isSafe(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-'
}

// CheckID checks the ID of a group: a safe id of at most [MaxName] bytes.
func CheckID(id string) error { return checkSafe("backup ID", id, 1, MaxName) }

// CheckStoreName checks the name of a datastore: a safe id of 3 to 32 bytes.
func CheckStoreName(name string) error {
	return checkSafe("datastore name", name, minStore, maxStore)
}

// archiveSuffixes say what a file of a snapshot is: the index of an image, the
// index of a stream, or a blob.
var archiveSuffixes = []string{".fidx", ".didx", ".blob"}

// CheckArchive checks the name of a file as a server keeps it in a snapshot: a
// safe id of at most [MaxName] bytes that ends in .fidx, .didx or .blob.
func CheckArchive(name string) error {
	if err := checkSafe("archive name", name, 1, MaxName); err != nil {
		return err
	}
	for _, suffix := range archiveSuffixes {
		if strings.HasSuffix(name, suffix) {
			return nil
		}
	}
	return &Error{"archive name", name, "does not end in .fidx, .didx or .blob", `on a server "root.pxar" is "root.pxar.didx", "disk.img" is "disk.img.fidx" and "etc.conf" is "etc.conf.blob"`}
}
