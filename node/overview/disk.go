package overview

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// Vanished is the warning that a file of a node is gone which it has as long as it lives:
// its directory was removed while it runs. Nil if the file is there. alone says that there
// is no other node, which could take it in again.
func Vanished(file, node string, alone bool) []Warning {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lost := "`holdfast invite create --replaces NAME` on another node, and join with that"
	if alone {
		lost = "`holdfast node init` in a new directory, and `holdfast datastore create NAME --path DIR --reuse-datastore` for each datastore; until it is stopped, accounts and settings can be read over the network, to make them again"
	}
	return []Warning{{
		"critical", node, fmt.Sprintf("%s was removed while the node runs: it takes no part in votes, and nothing that it is told is there after a restart", filepath.Dir(file)),
		"stop it and put the directory back, the datastores are elsewhere; if it is lost: " + lost + "; see docs/cluster.md",
	}}
}
