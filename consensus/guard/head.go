package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A head is how far a guard was: its last entry that promised something. The file
// has one, framed as an entry is.
type head struct {
	Seq uint64   `cbor:"1,keyasint"`
	Sum [32]byte `cbor:"2,keyasint"` // of that entry
}

// cure is what can be done about a guard that is not whole.
const cure = "restore the whole directory of this node from one backup; or, to go on without what it had promised (floors, blocks, an open breaker, requests that wait), see \"The guard is damaged\" in docs/cluster.md"

// HeadOf is the path of the file that says how far the guard in a directory was.
// It lies beside that directory, so that it stays if the directory is lost.
func HeadOf(dir string) string { return filepath.Clean(dir) + ".guard" }

// writeHead makes durable how far s is.
func writeHead(path string, s state) error {
	return replace(path, frame(canon.Encode(head{s.seq, s.prev})))
}

// readHead reads how far a guard was. A file that is not there or is damaged says
// nothing: the guard itself is in two copies.
func readHead(path string) (h head, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return head{}, nil
	}
	if err != nil {
		return head{}, err
	}
	if len(b) < frameHead || string(b[:frameHead]) != string(frame(b[frameHead:])[:frameHead]) || binary.BigEndian.Uint32(b) > maxEntry {
		return head{}, nil
	}
	if canon.Decode(b[frameHead:], &h) != nil {
		return head{}, nil
	}
	return h, nil
}

// whole fails if entries are less than this guard had, or another's.
func (g *Guard) whole(entries [][]byte) error {
	h, err := readHead(g.head)
	if err != nil {
		return err
	}
	n := uint64(len(entries))
	switch {
	case n < h.Seq:
		err = fmt.Errorf("%w: it has %d entries, and had %d", ErrDamaged, n, h.Seq)
	case h.Seq > 0 && canon.Sum(entries[h.Seq-1]) != h.Sum:
		err = fmt.Errorf("%w: its entry %d is not the one that this node wrote", ErrDamaged, h.Seq)
	case n > 0 && h.Seq == 0: // from before there was such a file
		return writeHead(g.head, state{seq: n, prev: canon.Sum(entries[n-1])})
	default:
		return nil
	}
	return &Error{err, cure}
}
