// Package away says that a datastore is not in its directory any more.
package away

import (
	"fmt"
	"strings"
)

const text = "any more: is its disk mounted?"

// Error says that the datastore of that name is not in dir, where it was opened, because
// of err.
func Error(name, dir string, err error) error { return &gone{name, dir, err} }

// Is tells whether a text, such as another node's, is of such an error.
func Is(s string) bool { return strings.Contains(s, text) }

type gone struct {
	name, dir string
	err       error
}

func (g *gone) Error() string {
	return fmt.Sprintf("datastore '%s' is not in %s %s (%v)", g.name, g.dir, text, g.err)
}
func (g *gone) Unwrap() error { return g.err }

// Hint is printed on its own line below the error.
func (g *gone) Hint() string {
	return "mount its disk, or put the directory back: it goes on by itself then. If the data are lost: `holdfast datastore remove " + g.name +
		"`, make it anew, and pull the copies of other nodes into it; see docs/operations.md"
}
