package index

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const (
	currentName    = "current"
	currentMagic   = "HFIXCUR1"
	currentVersion = 1
	currentFixed   = 40 // bytes before the list of runs
	currentRun     = 24 // bytes of a run in the list

	// MaxState is the longest state that Flush and Rebuild accept, in bytes:
	// 16 for each of 4 million packs.
	MaxState = 64 << 20

	// maxRuns bounds the list of runs. A fan-in of 2 needs 31 for 2 billion
	// records.
	maxRuns = 64
)

// current is the content of the file current.
type current struct {
	generation uint64    // random; 0: there is no file
	live       uint64    // digests that are not deleted
	runs       []runInfo // newest first
	state      []byte    // the owner's
}

func (c current) encode() []byte {
	b := make([]byte, currentFixed, currentFixed+len(c.runs)*currentRun+len(c.state)+sumSize)
	copy(b, currentMagic)
	binary.LittleEndian.PutUint32(b[8:], currentVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(c.runs)))
	binary.LittleEndian.PutUint64(b[16:], c.generation)
	binary.LittleEndian.PutUint64(b[24:], c.live)
	binary.LittleEndian.PutUint64(b[32:], uint64(len(c.state)))
	for _, r := range c.runs {
		b = binary.LittleEndian.AppendUint64(b, r.number)
		b = binary.LittleEndian.AppendUint64(b, r.records)
		b = binary.LittleEndian.AppendUint64(b, r.sum)
	}
	b = append(b, c.state...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// parseCurrent reads what encode wrote, and nothing else.
func parseCurrent(b []byte) (current, error) {
	var c current
	if len(b) < currentFixed+sumSize || string(b[:8]) != currentMagic {
		return c, errors.New("it does not begin as the list of an index")
	}
	body := b[:len(b)-sumSize]
	if binary.LittleEndian.Uint64(b[len(body):]) != xxhash.Sum64(body) {
		return c, errors.New("its sum is wrong")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != currentVersion {
		return c, fmt.Errorf("format version %d is unknown", v)
	}
	runs, state := uint64(binary.LittleEndian.Uint32(b[12:])), binary.LittleEndian.Uint64(b[32:])
	if runs > maxRuns || state > MaxState || currentFixed+runs*currentRun+state != uint64(len(body)) {
		return c, fmt.Errorf("%d runs and %d bytes of state do not fit in %d bytes", runs, state, len(b))
	}
	c.generation, c.live = binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if c.generation == 0 {
		return c, errors.New("it has no generation")
	}
	for i := range runs {
		e := b[currentFixed+i*currentRun:]
		c.runs = append(c.runs, runInfo{
			number:  binary.LittleEndian.Uint64(e),
			records: binary.LittleEndian.Uint64(e[8:]),
			sum:     binary.LittleEndian.Uint64(e[16:]),
		})
	}
	c.state = slices.Clone(body[uint64(len(body))-state:])
	return c, nil
}

// readCurrent reads the file current; without one it returns the zero value.
func readCurrent(cfg Config) (current, error) {
	name := path.Join(cfg.Dir, currentName)
	f, err := cfg.FS.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return current{}, nil
	}
	if err != nil {
		return current{}, fmt.Errorf("open list of index: %w", err)
	}
	b, err := readLimited(f, currentFixed+maxRuns*currentRun+MaxState+sumSize)
	if err = errors.Join(err, f.Close()); err != nil {
		return current{}, &DamagedError{File: name, Err: err}
	}
	c, err := parseCurrent(b)
	if err != nil {
		return current{}, &DamagedError{File: name, Err: err}
	}
	return c, nil
}

// readLimited returns the first limit bytes of f at most: what is longer than
// it may be has to be refused by its content.
func readLimited(f disk.File, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, limit))
	_, err = io.ReadFull(io.NewSectionReader(f, 0, size), b)
	return b, err
}

// writeCurrent makes c, under a new generation, what the next Open finds.
// After an error either that or the previous list is on disk.
func writeCurrent(cfg Config, c current) (current, error) {
	if len(c.state) > MaxState {
		return c, fmt.Errorf("state of index has %d bytes, want at most %d", len(c.state), MaxState)
	}
	if len(c.runs) > maxRuns {
		return c, fmt.Errorf("index has %d runs, want at most %d", len(c.runs), maxRuns)
	}
	c.generation = newGeneration()
	if err := disk.WriteFileAtomic(cfg.FS, path.Join(cfg.Dir, currentName), c.encode(), 0o600); err != nil {
		return c, fmt.Errorf("write list of index: %w", err)
	}
	return c, nil
}

func newGeneration() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.LittleEndian.Uint64(b[:]), 1)
}

// leftovers returns the runs in the directory that cur does not list, and what
// writeCurrent may have left, and a number for the next run that no file has.
func leftovers(cfg Config, cur current) (names []string, next uint64, err error) {
	entries, err := cfg.FS.ReadDir(cfg.Dir)
	if err != nil {
		return nil, 0, fmt.Errorf("list directory of index: %w", err)
	}
	next = 1
	for _, e := range entries {
		number, isRun := parseRunName(e.Name())
		if isRun {
			next = max(next, number+1)
		}
		listed := slices.ContainsFunc(cur.runs, func(r runInfo) bool { return r.number == number })
		if isRun && !listed || disk.IsTemp(e.Name()) {
			names = append(names, path.Join(cfg.Dir, e.Name()))
		}
	}
	return names, next, nil
}

// sweep removes the leftovers, and returns the number for the next run.
func sweep(cfg Config, cur current) (next uint64, err error) {
	names, next, err := leftovers(cfg, cur)
	if err != nil || len(names) == 0 {
		return next, err
	}
	// If cur was renamed into place but power failed before that was durable,
	// the previous list must not come back without its runs.
	if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
		return 0, fmt.Errorf("sync directory of index: %w", err)
	}
	for _, name := range names {
		if err := cfg.FS.Remove(name); err != nil {
			cfg.Log.Warn("leftover of index stays until the next flush", "file", name, "err", err)
		}
	}
	return next, nil
}
