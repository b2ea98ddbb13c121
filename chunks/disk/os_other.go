//go:build !linux

package disk

import (
	"io/fs"
	"os"
)

// openFile opens name; Direct has no effect here.
func openFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag&^Direct, perm)
	if err != nil {
		return nil, err
	}
	return &plainFile{f}, nil
}
