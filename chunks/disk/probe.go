package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Abilities are what works in a directory, which says nothing of whether it
// pays.
type Abilities struct {
	Direct bool // files can bypass the page cache
	Punch  bool // a hole gives its space back
	Clone  bool // files can share blocks
	Map    bool // a file can be shown as memory
}

const (
	probePrefix = ".probe-"
	probeBytes  = 64 << 10 // a few blocks of any file system, so that a hole in the middle shows
)

// Probe finds out what works in dir by doing it, on small files that it
// removes again, and removes those of a probe that crashed. It fails only if
// not even an ordinary file can be written; that something does not work, for
// whatever reason, is an answer.
func Probe(fsys FS, dir string) (Abilities, error) {
	if err := sweepProbes(fsys, dir); err != nil {
		return Abilities{}, fmt.Errorf("probe %s: %w", dir, err)
	}
	name := tempName(path.Join(dir, probePrefix))
	a, err := probe(fsys, name)
	if gone := sweepProbes(fsys, dir); err == nil {
		err = gone
	}
	if err != nil {
		return Abilities{}, fmt.Errorf("probe %s: %w", dir, err)
	}
	return a, nil
}

// sweepProbes removes the files of probes.
func sweepProbes(fsys FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), probePrefix) {
			continue
		}
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// probe writes name and tries everything on it. Each trial leaves the content
// as it was, except for the hole, which comes last.
func probe(fsys FS, name string) (Abilities, error) {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Abilities{}, err
	}
	defer f.Close() // it is removed
	data := AlignedBuffer(probeBytes)
	for i := range data {
		data[i] = byte(i>>8) | 1 // no block is zero, as some file systems store no zeros
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return Abilities{}, err
	}
	if err := f.Sync(); err != nil {
		return Abilities{}, err
	}
	return Abilities{
		Direct: directWorks(fsys, name, data),
		Clone:  cloneWorks(fsys, name+"-clone", f, data),
		Map:    mapWorks(f, data),
		Punch:  punchWorks(f, data),
	}, nil
}

func directWorks(fsys FS, name string, data []byte) bool {
	f, err := fsys.OpenFile(name, os.O_RDWR|Direct, 0)
	if err != nil {
		return false
	}
	defer f.Close() // what matters was read back
	if d, ok := f.(Directer); !ok || !d.Direct() {
		return false
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return false
	}
	return holds(f, data)
}

func cloneWorks(fsys FS, name string, src File, data []byte) bool {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	defer f.Close() // it is removed
	c, ok := f.(Cloner)
	return ok && c.CloneRange(0, src, 0, probeBytes) == nil && holds(f, data)
}

func mapWorks(f File, data []byte) bool {
	m, ok := f.(Mapper)
	if !ok {
		return false
	}
	mapped, unmap, err := m.Map()
	if err != nil {
		return false
	}
	same := bytes.Equal(mapped, data)
	return unmap() == nil && same
}

// punchWorks makes a hole in the middle of f and looks whether the file got
// smaller on disk, not only whether the call succeeded.
func punchWorks(f File, data []byte) bool {
	const hole, end = probeBytes / 4, probeBytes * 3 / 4
	p, ok := f.(Puncher)
	ext, told := f.(Extenter)
	if !ok || !told {
		return false
	}
	before, err := ext.Allocated()
	if err != nil || p.Punch(hole, end-hole) != nil || f.Sync() != nil {
		return false
	}
	after, err := ext.Allocated()
	clear(data[hole:end])
	return err == nil && after < before && holds(f, data)
}

// holds tells whether data is the content of f.
func holds(f File, data []byte) bool {
	got := AlignedBuffer(len(data))
	n, _ := f.ReadAt(got, 0) // io.EOF is as good as nil
	return n == len(data) && bytes.Equal(got, data)
}
