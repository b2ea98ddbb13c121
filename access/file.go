package access

import (
	"github.com/holdfast-mesh/holdfast/access/statefile"
)

// A FileStore is a [Store] in one JSON file with the mode 0600. One process
// has it; a file that was changed behind its back is not overwritten.
type FileStore = statefile.File[State]

// stateFile is the file of accounts. Its limit is some 50,000 of them.
var stateFile = statefile.Kind[State]{
	Name: "accounts", Version: 1, Limit: 32 << 20,
	New: newState, Clone: (*State).Clone, Tidy: (*State).tidy, Check: (*State).Check,
	Loss: "only root@pam is left",
}

// OpenFile reads the state at path. If there is no file, the state is that of
// a new node, with root@pam and nobody else, and the first change makes the
// file. Fields that this program does not know are refused, since it would
// lose them with the next change.
func OpenFile(path string) (*FileStore, error) { return statefile.Open(path, stateFile) }
