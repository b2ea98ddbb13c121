//go:build linux

package tree

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// Device returns the number of the file system that path lies on, for
// [Options].IncludeDevices.
func Device(path string) (uint64, error) {
	var st unix.Stat_t
	if err := inode.Again(func() error { return unix.Stat(path, &st) }); err != nil {
		return 0, fmt.Errorf("find the file system of %s: %w", path, err)
	}
	return uint64(st.Dev), nil
}
