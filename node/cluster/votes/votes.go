// Package votes says when a node may vote. A machine that was started from an old image
// does not know what it has voted, nor which entries it has stored: with its vote a
// second leader could be elected, or one that lacks what was agreed on. So it gives
// none, and stands for nothing, before a leader has given it all that there is; and
// none in the term of that leader or in one before.
package votes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
)

// restoredFile is there when the disk of this node went back once.
const restoredFile = "restored"

// hearTime is how long a node that has just started gives no vote unless it knows
// that its disk did not go back. Nobody whom it could give one is farther away.
const hearTime = 2 * time.Minute

// Votes are those of one node. They may be used by many goroutines.
type Votes struct {
	Begun time.Time // when they were opened

	file string

	mu     sync.Mutex
	heard  bool
	wanted restored
}

// restored is what the file has.
type restored struct {
	Restored bool   `json:"restored"` // and no leader has given it all since
	Term     uint64 `json:"term"`     // no vote in this term, or in one before
}

// Open reads the file. One that cannot be read is no permission to vote.
func Open(dir string, wait bool) *Votes {
	v := &Votes{file: filepath.Join(dir, restoredFile), Begun: time.Now(), heard: !wait}
	b, err := statefile.ReadSecret(v.file, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return v
	}
	if err != nil || json.Unmarshal(b, &v.wanted) != nil {
		v.wanted = restored{Restored: true}
	}
	return v
}

// May returns nil if this node may vote in a term.
func (v *Votes) May(term uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.wanted.Restored:
		return errors.New("this node's disk went back: it does not vote before a leader has given it all that was agreed on")
	case !v.heard && time.Since(v.Begun) < hearTime:
		return errors.New("this node has just started, and does not know yet whether its disk went back")
	case term <= v.wanted.Term:
		return fmt.Errorf("this node's disk went back, and it may have voted in term %d before", term)
	}
	return nil
}

func (v *Votes) write(r restored) error {
	text, err := json.Marshal(r)
	if err == nil {
		_, err = statefile.WriteSecret(v.file, text, true)
	}
	if err != nil {
		return fmt.Errorf("note that the disk went back: %w", err)
	}
	v.wanted = r
	return nil
}

// Note notes whether the disk went back. What cannot be written counts all the
// same, as long as this process lives.
func (v *Votes) Note(wentBack bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !wentBack {
		v.heard = true
		return nil
	}
	r := restored{true, v.wanted.Term}
	err := v.write(r)
	v.wanted = r
	return err
}

// CaughtUp notes that a leader in a term has given this node all that there is.
func (v *Votes) CaughtUp(term uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.write(restored{false, max(term, v.wanted.Term)})
}

// Suspended tells whether the disk went back, and no leader has given this node all since.
func (v *Votes) Suspended() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.wanted.Restored
}
