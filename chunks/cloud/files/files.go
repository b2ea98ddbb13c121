// Package files keeps small files that wait for the next root of a store.
package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Max bounds a file in bytes, maxName its name.
const (
	Max     = 256 << 20
	maxName = 1000
)

// A Dir is a directory of files that wait, each under the sum of its name.
type Dir struct {
	FS   disk.FS
	Path string // a directory of its own, which exists
}

func (d Dir) path(name string) string {
	sum := sha256.Sum256([]byte(name))
	return path.Join(d.Path, hex.EncodeToString(sum[:]))
}

// Put keeps a file durably.
func (d Dir) Put(name string, content []byte) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("file name of %d bytes, want 1 to %d", len(name), maxName)
	case len(content) > Max:
		return fmt.Errorf("file %s has %d bytes, want at most %d", name, len(content), Max)
	}
	return disk.WriteFileAtomic(d.FS, d.path(name), append([]byte(name+"\n"), content...), 0o640)
}

// Get returns the content of a file.
func (d Dir) Get(name string) ([]byte, error) {
	b, err := disk.ReadFile(d.FS, d.path(name), Max+maxName+1)
	if err != nil {
		return nil, err
	}
	content, ok := bytes.CutPrefix(b, []byte(name+"\n"))
	if !ok {
		return nil, fmt.Errorf("%s is not the file %s", d.path(name), name)
	}
	return content, nil
}

// Remove removes a file, which may be gone already.
func (d Dir) Remove(name string) error {
	if err := d.FS.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
