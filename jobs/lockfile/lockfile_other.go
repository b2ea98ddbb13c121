//go:build !unix

package lockfile

import (
	"io"
	"os"
)

// Lock opens the file name. Nothing here keeps another process out.
func Lock(name string) (io.Closer, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// SyncDir does nothing: a directory cannot be synced here.
func SyncDir(string) error { return nil }
