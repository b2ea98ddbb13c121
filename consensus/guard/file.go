package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A file is one copy of the guard: entries, each a length as u32, big endian,
// the complement of it, the CRC-32C of the bytes as u32, and that many bytes. A crash can only cut off the last
// entry; everything else that is wrong is damage.
type file struct {
	f *os.File
}

const (
	frameHead = 12
	maxEntry  = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// load opens both copies and makes them equal: to the longer one, if the other
// is a beginning of it.
func (g *Guard) load(paths ...string) ([][]byte, error) {
	var best [][]byte
	var all [2][][]byte
	var problems error
	for i, path := range paths {
		entries, err := readFile(path)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		all[i] = entries
		if len(entries) > len(best) {
			best = entries
		}
	}
	if len(best) == 0 && problems != nil { // a copy that is not there is no better
		return nil, &Error{problems, cure}
	}
	for _, entries := range all {
		for i, e := range entries {
			if !bytes.Equal(e, best[i]) {
				return nil, &Error{fmt.Errorf("%w: its two copies differ at entry %d", ErrDamaged, i+1), cure}
			}
		}
	}
	for i, path := range paths {
		f, err := openCopy(path, best)
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		g.copies[i] = f
	}
	return best, nil
}

// readFile reads the whole entries of a copy. An entry that was cut off at the
// end was never promised.
func readFile(path string) ([][]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := split(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return entries, nil
}

// split cuts a file into its entries, and checks that they are one chain.
func split(b []byte) (entries [][]byte, err error) {
	var prev [32]byte
	for len(b) >= frameHead {
		n := binary.BigEndian.Uint32(b)
		if n != ^binary.BigEndian.Uint32(b[4:]) || n > maxEntry {
			return nil, fmt.Errorf("entry %d has no length", len(entries)+1)
		}
		if uint64(len(b)-frameHead) < uint64(n) {
			break // cut off
		}
		raw := b[frameHead : frameHead+n]
		var e entry
		if binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(raw, castagnoli) {
			return nil, fmt.Errorf("the sum of entry %d does not match", len(entries)+1)
		}
		if err := canon.Decode(raw, &e); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(entries)+1, err)
		}
		if e.Seq != uint64(len(entries)+1) || e.Prev != prev {
			return nil, fmt.Errorf("entry %d does not follow the one before", len(entries)+1)
		}
		entries, prev, b = append(entries, raw), canon.Sum(raw), b[frameHead+n:]
	}
	return entries, nil
}

// openCopy opens a copy for appending and gives it these entries.
func openCopy(path string, entries [][]byte) (*file, error) {
	var want []byte
	for _, e := range entries {
		want = append(want, frame(e)...)
	}
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil || !bytes.Equal(have, want) {
		if err := replace(path, want); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{f}, nil
}

// replace makes data the content of path, whole or not at all.
func replace(path string, data []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func frame(e []byte) []byte {
	n := uint32(len(e))
	b := binary.BigEndian.AppendUint32(make([]byte, 0, frameHead+len(e)), n)
	b = binary.BigEndian.AppendUint32(b, ^n)
	return append(binary.BigEndian.AppendUint32(b, crc32.Checksum(e, castagnoli)), e...)
}

func (f *file) append(e []byte) error {
	if _, err := f.f.Write(frame(e)); err != nil {
		return err
	}
	return f.f.Sync()
}

// Close closes the files.
func (g *Guard) Close() (err error) {
	for _, f := range g.copies {
		if f != nil {
			err = errors.Join(err, f.f.Close())
		}
	}
	return err
}
