package pxar

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
)

// A Node is an entry of an [Archive].
type Node struct {
	Entry
	archive *Archive
	end     int64 // of a directory: behind its table
}

func (n *Node) place() place {
	p := place{start: int64(n.Position), end: n.end, depth: n.Depth}
	if n.Depth > 0 {
		p.folder = &folder{n.Name, n.parent}
	}
	return p
}

// dir returns where to search n. What is below a file does not exist.
func (n *Node) dir() (place, error) {
	if n.Kind != Dir {
		return place{}, fmt.Errorf("%q in archive is a %v, not a directory: %w", n.Path(), n.Kind, fs.ErrNotExist)
	}
	return n.place(), nil
}

// Lookup returns the entry name of a directory. If a name occurs more than
// once, the last counts. It fails with fs.ErrNotExist if there is none.
func (n *Node) Lookup(name string) (*Node, error) {
	at, err := n.dir()
	if err != nil {
		return nil, err
	}
	c, err := n.archive.lookup(at, name)
	if err != nil {
		return nil, fmt.Errorf("look up %q in %q in archive: %w", name, n.Path(), err)
	}
	return c, nil
}

// Entries returns the entries of a directory in the order of the archive. One
// that cannot be read comes as an error instead, and the others follow; if the
// table of the directory cannot be read, that error is all there is. Whoever
// descends into all directories this way comes to an end: none is inside of
// itself or of two others. An iteration that is under way holds a buffer of up
// to 64 KiB, so to go deep, end one before the next.
func (n *Node) Entries() iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		at, err := n.dir()
		if err != nil {
			yield(nil, err)
			return
		}
		t, err := n.archive.table(at.start, at.end)
		if err != nil {
			yield(nil, fmt.Errorf("list %q in archive: %w", n.Path(), err))
			return
		}
		rd := n.archive.reader()
		defer rd.release()
		records := t.ByPosition()
		for i, r := range records {
			limit := t.At // where the next entry begins: they cannot overlap
			if i+1 < len(records) {
				limit = t.At - int64(min(records[i+1].Offset, uint64(t.At)))
			}
			rd.window.block = entryBlock
			if limit-(t.At-int64(min(r.Offset, uint64(t.At)))) <= maxSpread {
				rd.window.block = listBlock
			}
			c, err := n.archive.node(rd, at, t, r, limit, "")
			if err != nil {
				err = fmt.Errorf("list %q in archive: %w", n.Path(), err)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// maxListErrors is how many errors Children tells apart.
const maxListErrors = 8

// Children returns the entries of a directory, sorted by name. If a name
// occurs more than once, the last counts. Entries that cannot be read are left
// out, and the error says so; the others are returned beside it.
func (n *Node) Children() ([]*Node, error) {
	var all []*Node
	var errs []error
	failed := 0
	for c, err := range n.Entries() {
		if err == nil {
			all = append(all, c)
			continue
		}
		if failed++; failed <= maxListErrors {
			errs = append(errs, err)
		}
	}
	if failed > maxListErrors {
		errs = append(errs, fmt.Errorf("list %q in archive: %d more entries cannot be read", n.Path(), failed-maxListErrors))
	}
	return sortByName(all), errors.Join(errs...)
}

// sortByName sorts what is in the order of the archive, and keeps the last of
// equal names.
func sortByName(all []*Node) []*Node {
	slices.SortStableFunc(all, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Position, a.Position))
	})
	return slices.CompactFunc(all, func(a, b *Node) bool { return a.Name == b.Name })
}

// Resolve returns the file that a hard link is another name of, and any other
// entry itself.
func (n *Node) Resolve() (*Node, error) {
	if n.Kind != Hardlink {
		return n, nil
	}
	file, err := n.archive.linked(n)
	if err != nil {
		return nil, fmt.Errorf("follow hard link %q in archive: %w", n.Path(), err)
	}
	return file, nil
}

// linked reads the entry that the hard link n points back to.
func (a *Archive) linked(n *Node) (*Node, error) {
	rd := a.reader()
	defer rd.release()
	rd.seek(int64(n.Link), int64(n.Position))
	h, err := rd.scan.expect(itemFilename)
	if err != nil {
		return nil, err
	}
	file := &Node{archive: a, end: int64(n.Position)}
	if file.Name, err = rd.scan.name(h); err != nil {
		return nil, err
	}
	if file.Name != path.Base(n.Target) {
		return nil, malformed(h.at, "the hard link is to %q, but %q is there", n.Target, file.Name)
	}
	file.Position = n.Link
	for _, part := range splitPath(path.Dir(n.Target)) {
		file.parent = &folder{part, file.parent}
		file.Depth++
	}
	file.Depth++
	if err := rd.scan.node(&file.Entry); err != nil {
		return nil, err
	}
	if file.Kind != File {
		return nil, malformed(h.at, "the hard link is to a %v", file.Kind)
	}
	return file, nil
}

// Content returns the content of a file; of a hard link, that of the file it
// is another name of.
func (n *Node) Content() (*io.SectionReader, error) {
	file, err := n.Resolve()
	if err != nil {
		return nil, err
	}
	if file.Kind != File {
		return nil, fmt.Errorf("%q in archive is a %v and has no content", n.Path(), file.Kind)
	}
	if !file.content.split {
		return io.NewSectionReader(n.archive.r, file.content.at, file.Size), nil
	}
	section, err := n.archive.payload(file.content.at, file.Size)
	if err != nil {
		return nil, fmt.Errorf("open content of %q in archive: %w", n.Path(), err)
	}
	return section, nil
}

// payload returns the content of size bytes in the payload stream whose header
// is at at.
func (a *Archive) payload(at, size int64) (*io.SectionReader, error) {
	o := &a.opts
	if o.Payload == nil {
		return nil, errNoPayload
	}
	if at > o.PayloadSize-headerSize || size > o.PayloadSize-headerSize-at {
		return nil, malformed(at, "payload of %d bytes goes beyond the end of its stream at %d", size, o.PayloadSize)
	}
	var raw [headerSize]byte
	if err := readAt(o.Payload, raw[:], at); err != nil {
		return nil, err
	}
	if err := checkPayload(&raw, at, size); err != nil {
		return nil, err
	}
	return io.NewSectionReader(o.Payload, at+headerSize, size), nil
}
