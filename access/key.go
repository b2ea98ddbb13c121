package access

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/access/ticket"
)

// A Key signs tickets and CSRF tokens. Nodes that answer at one address share
// it, so that each takes the tickets of the others.
type Key = ticket.Key

// maxKeyFile bounds the PEM file, which has some 120 bytes.
const maxKeyFile = 4096

// OpenKey reads the key at path, and makes one if there is none: a PEM file
// with the mode 0600. Tickets outlive a restart because the file does.
func OpenKey(path string) (*Key, error) {
	if err := statefile.RemoveTemps(path); err != nil {
		return nil, fmt.Errorf("open ticket key %s: %w", path, err)
	}
	text, err := statefile.ReadSecret(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open ticket key %s: %w", path, err)
	}
	k, err := ticket.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("open ticket key %s: %w", path, err)
	}
	return k, nil
}

// makeKey writes a new key, and returns what is there then: the key of another
// process, if that was faster.
func makeKey(path string) ([]byte, error) {
	text, err := ticket.NewKey().PEM()
	if err != nil {
		return nil, err
	}
	if _, err := statefile.WriteSecret(path, text, false); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return statefile.ReadSecret(path, maxKeyFile)
}
