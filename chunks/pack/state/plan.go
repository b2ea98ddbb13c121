package state

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Usage is what a pack's entries occupy in it, headers and padding included.
type Usage struct {
	Entries, Dead        uint32 // entries not yet reclaimed, and those of them in the set asked for
	LiveBytes, DeadBytes int64
}

// Abilities are the ways in which the file system below a store gives space
// back, found by trying.
type Abilities struct {
	Punch bool `json:"punch"` // holes can be punched into a file, and the space returns
	Clone bool `json:"clone"` // a new file can share blocks of an old one
}

// A Method is a way to give the space of dead entries back.
type Method uint8

// The methods, cheapest first.
const (
	Keep    Method = iota // not worth it now
	Drop                  // nothing lives in the pack: remove the file
	Punch                 // turn runs of dead entries into holes
	Reflink               // share the live runs with a new, dense pack; drop the old one
	Copy                  // copy the live entries into other packs; drop the old one
)

var methodNames = [...]string{"keep", "drop", "punch", "reflink", "copy"}

func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// MarshalText writes the method's name.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// A Move says that a chunk has another place now.
type Move struct {
	Digest   chunks.Digest
	Old, New Ref
}

// Reclaimed is what became of the condemned entries of one pack.
type Reclaimed struct {
	Entries     uint32 // condemned entries that are gone now
	FreedBytes  int64  // disk space that came back
	CopiedBytes int64  // live bytes that had to be written anew
}
