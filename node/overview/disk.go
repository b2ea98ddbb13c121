package overview

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// least is what has to be free where a node keeps what it knows: below it, it may soon
// not be able to write down what was agreed on, and its vote is lost.
const least = 256 << 20

// Disk warns when there is little room for what a node knows of its cluster. free says
// how much there is; nil: that of the system.
func Disk(dir, node string, free func(dir string) (disk.Space, error)) []Warning {
	if free == nil {
		free = disk.OS{}.Space
	}
	space, err := free(dir)
	switch {
	case err != nil:
		return []Warning{{"warning", node, fmt.Sprintf("how much is free in %s is not known: %v", dir, err), ""}}
	case space.FreeBytes < least:
		return []Warning{{
			"critical", node, fmt.Sprintf("the disk of %s has %d MiB left: when it is full, this node cannot vote, and keeps no changes", dir, space.FreeBytes>>20),
			"free some space there; backups go to datastores, see their own figures",
		}}
	}
	return nil
}
