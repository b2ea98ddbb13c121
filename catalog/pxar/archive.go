package pxar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// Options say what else belongs to an [Archive].
type Options struct {
	// Payload is the stream with the contents of a split archive, and
	// PayloadSize its length in bytes. Without it contents cannot be read.
	Payload     io.ReaderAt
	PayloadSize int64
}

// An Archive gives random access to an archive. It reads the table at the end
// of each directory on the way and the entry at the end of it, never what lies
// between, and keeps tables in memory, up to 32 MiB and the one used last. It
// is safe for concurrent use if its readers are.
type Archive struct {
	r      io.ReaderAt
	size   int64
	opts   Options
	tables goodbye.Cache

	mu      sync.Mutex // guards what follows
	root    *Node      // nil until it was read
	prelude []byte
}

// OpenArchive opens the archive of size bytes in r; of a split archive that is
// the metadata. It reads no more than the end. Bytes that are no archive fail
// with [ErrFormat], then or later.
func OpenArchive(r io.ReaderAt, size int64, opts Options) (*Archive, error) {
	a := &Archive{r: r, size: size, opts: opts}
	if _, err := a.table(0, size); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return a, nil
}

// table returns the table of the directory in [start, end).
func (a *Archive) table(start, end int64) (*goodbye.Table, error) {
	t, err := a.tables.Table(a.r, start, end)
	return t, tableError(err)
}

// tableError makes what is wrong with a table wrong with the archive.
func tableError(err error) error {
	if errors.Is(err, goodbye.ErrFormat) {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// Root returns the root directory. The first call reads the beginning of the
// archive; Find does not need it.
func (a *Archive) Root() (*Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root != nil {
		return a.root, nil
	}
	root, prelude, err := a.readRoot()
	if err != nil {
		return nil, fmt.Errorf("read root of archive: %w", err)
	}
	a.root, a.prelude = root, prelude
	return root, nil
}

// Prelude returns what the writer of a version 2 archive put in front of it,
// usually exclude patterns as JSON; nil if there is nothing.
func (a *Archive) Prelude() ([]byte, error) {
	if _, err := a.Root(); err != nil {
		return nil, err
	}
	return a.prelude, nil
}

func (a *Archive) readRoot() (root *Node, prelude []byte, err error) {
	t, err := a.table(0, a.size)
	if err != nil {
		return nil, nil, err
	}
	rd := a.reader()
	defer rd.release()
	rd.seek(0, t.At)
	if prelude, err = rd.scan.version(); err != nil {
		return nil, nil, noEOF(err)
	}
	root = &Node{archive: a, end: a.size}
	h, err := rd.scan.peek()
	if err != nil {
		return nil, nil, noEOF(err)
	}
	if err := rd.scan.node(&root.Entry); err != nil {
		return nil, nil, err
	}
	if root.Kind != Dir {
		return nil, nil, malformed(h.at, "the root is a %v", root.Kind)
	}
	if t.Start != 0 && t.Start != h.at {
		return nil, nil, malformed(t.At, "the tail of the goodbye table does not fit the root")
	}
	return root, prelude, nil
}

// Find returns the entry at path, whose components are separated by slashes;
// empty ones and "." count for nothing. No link is followed. It fails with
// fs.ErrNotExist if there is none.
//
// Directories on the way are not read if their table proves where they begin
// and no other name has their hash. This saves the way to the start of each,
// which may be far from its end. Only the content of a file, made for it, can
// look the same. So what is found this way counts only if it is a file without
// rights and attributes; all else is reached by reading every directory.
func (a *Archive) Find(path string) (*Node, error) {
	n, err := a.find(path, false)
	if err == nil && !n.plain() {
		n, err = a.find(path, true)
	}
	if err != nil {
		return nil, fmt.Errorf("find %q in archive: %w", path, err)
	}
	return n, nil
}

// plain reports whether the entry is a file that could be anybody's.
func (n *Node) plain() bool {
	return n.Kind == File && n.Mode&0o7000 == 0 && n.Flags == 0 &&
		n.FCaps == nil && n.Xattrs == nil && n.ProjectID == 0
}

func (a *Archive) find(path string, careful bool) (*Node, error) {
	parts := splitPath(path)
	if len(parts) == 0 {
		return a.Root()
	}
	at := place{start: 0, end: a.size}
	for i, name := range parts {
		last := i == len(parts)-1
		if !last && !careful {
			if below, ok := a.descend(at, name); ok {
				at = below
				continue
			}
		}
		n, err := a.lookup(at, name)
		if err != nil || last {
			return n, err
		}
		if n.Kind != Dir {
			return nil, fmt.Errorf("%q is a %v: %w", n.Path(), n.Kind, fs.ErrNotExist)
		}
		at = n.place()
	}
	panic("pxar: a path has no last component")
}

func splitPath(path string) []string {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}

// A place is a directory that can be searched.
type place struct {
	start, end int64
	folder     *folder // of what is in it; nil for the root
	depth      int
}

// descend enters the directory name without reading its entry, if that is
// safe.
func (a *Archive) descend(at place, name string) (below place, ok bool) {
	t, err := a.table(at.start, at.end)
	if err != nil {
		return place{}, false
	}
	found, err := t.Find(goodbye.Hash(name))
	if err != nil || len(found) != 1 {
		return place{}, false
	}
	start, end, err := t.Extent(found[0])
	if err != nil {
		return place{}, false
	}
	sub, err := a.table(start, end)
	if err != nil || sub.Start != start+headerSize+int64(len(name))+1 {
		return place{}, false
	}
	return place{start: start, end: end, folder: &folder{name, at.folder}, depth: at.depth + 1}, true
}

// lookup reads the entry name in the directory at.
func (a *Archive) lookup(at place, name string) (*Node, error) {
	t, err := a.table(at.start, at.end)
	if err != nil {
		return nil, err
	}
	found, err := t.Find(goodbye.Hash(name))
	if err != nil {
		return nil, tableError(err)
	}
	rd := a.reader()
	defer rd.release()
	var best *Node
	for _, r := range found {
		n, err := a.node(rd, at, t, r, t.At, name)
		if err != nil && !errors.Is(err, errOtherName) {
			return nil, err
		}
		if err == nil && (best == nil || n.Position > best.Position) {
			best = n // of equal names the last counts
		}
	}
	if best == nil {
		return nil, fs.ErrNotExist
	}
	return best, nil
}

var errOtherName = errors.New("another name has the same hash")

// node reads the entry that r describes. It ends at or before limit. If want is
// not "", an entry of another name fails with errOtherName.
func (a *Archive) node(rd *itemReader, at place, t *goodbye.Table, r goodbye.Record, limit int64, want string) (*Node, error) {
	start, err := t.Position(r)
	if err != nil {
		return nil, tableError(err)
	}
	rd.seek(start, limit)
	h, err := rd.scan.expect(itemFilename)
	if err != nil {
		return nil, err
	}
	n := &Node{archive: a, end: limit}
	if n.Name, err = rd.scan.name(h); err != nil {
		return nil, err
	}
	if want != "" && n.Name != want {
		return nil, errOtherName
	}
	n.Position, n.Depth, n.parent = Position(start), at.depth+1, at.folder
	if err := rd.scan.node(&n.Entry); err != nil {
		return nil, err
	}
	if n.Kind == Dir {
		if r.Size > uint64(limit-start) {
			return nil, malformed(start, "directory of %d bytes goes beyond %d", r.Size, limit)
		}
		n.end = start + int64(r.Size)
	}
	return n, nil
}
