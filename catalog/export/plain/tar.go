package plain

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// Limits of what is written to a tar archive.
const (
	maxTarDepth = 2048      // levels: no path of Linux (PATH_MAX) has more
	maxTarPath  = 64 << 10  // bytes; tar can unpack no more than 4,096 by path
	maxTarAttrs = 768 << 10 // bytes of attributes; package archive/tar writes headers of 1 MiB at most
	tarBlock    = 1 << 20   // bytes of content that are read at a time
	maxTarNotes = 1000      // that are kept
	zeroBytes   = 256 << 10 // that stand for lost content, at a time
)

// TarOptions say how [Tar] works.
type TarOptions struct {
	Name      string                     // of the root in the archive; default "."
	KeepGoing bool                       // put zeros where content is lost, leave out what cannot be read, and fail at the end
	Progress  func(entries, bytes int64) // called after each entry and each MiB
}

// A TarReport says what is in a tar archive, and what is not.
type TarReport struct {
	Entries int64    `json:"entries"`
	Bytes   int64    `json:"bytes"`   // of content
	Dropped int64    `json:"dropped"` // entries with attributes that tar does not keep: inode flags (chattr), project ids, attributes of more than 768 KiB
	Lost    int64    `json:"lost"`    // entries with lost content, or left out because they could not be read
	Skipped int64    `json:"skipped"` // entries of a kind that tar does not keep: sockets
	Notes   []string `json:"notes"`   // about what was not kept, the first 1,000
}

// Tar writes the tree below root, or the one file that it is, to w as a
// tar archive, with everything that pax headers can keep: names of any length
// and bytes, nanoseconds, hard links, devices, extended attributes,
// capabilities and ACLs as GNU tar and bsdtar read them. Sockets are left out.
//
// What cannot be read ends it with an error, or, with KeepGoing, is noted: then
// the archive is whole, and Tar fails at the end with an error that
// matches archive.ErrDamaged.
func Tar(ctx context.Context, w io.Writer, root *pxar.Node, opt TarOptions) (TarReport, error) {
	if opt.Name == "" {
		opt.Name = "."
	}
	t := &tarrer{
		tar: tar.NewWriter(w), opt: opt, root: root.Path(),
		lost: map[pxar.Position]bool{}, outside: map[pxar.Position]string{}, buf: make([]byte, tarBlock),
	}
	err := t.node(ctx, root, opt.Name, 0)
	if err == nil {
		err = t.tar.Close()
	}
	if err != nil {
		return t.report, fmt.Errorf("write tar archive: %w", err)
	}
	if t.report.Lost > 0 {
		return t.report, fmt.Errorf("write tar archive: %d entries: %w; first: %s", t.report.Lost, archive.ErrDamaged, t.first)
	}
	return t.report, nil
}

// A tarrer is one run of Tar.
type tarrer struct {
	tar    *tar.Writer
	opt    TarOptions
	root   string // path of the root in its own archive
	report TarReport
	first  string // what was lost first
	buf    []byte

	gaps    bool                     // there may be files that are not in the archive, and not in lost
	lost    map[pxar.Position]bool   // files that are not in the archive
	outside map[pxar.Position]string // hard links' targets that are not below the root, and what has their content
}

// loss notes that something of the entry name cannot be read, or returns the
// error if that is the end.
func (t *tarrer) loss(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !t.opt.KeepGoing {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	t.report.Lost++
	note := fmt.Sprintf("%.200q: %v", name, err)
	if t.first == "" {
		t.first = note
	}
	t.note(note)
	return nil
}

func (t *tarrer) note(text string) {
	if len(t.report.Notes) < maxTarNotes {
		t.report.Notes = append(t.report.Notes, text)
	}
}

// node writes an entry and what is below it.
func (t *tarrer) node(ctx context.Context, n *pxar.Node, name string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxTarDepth || len(name) > maxTarPath {
		t.gaps = true
		return t.loss(ctx, name, errors.New("it lies too deep for tar"))
	}
	if n.Kind == pxar.Hardlink {
		return t.link(ctx, n, name)
	}
	return t.entry(ctx, n, name, depth)
}

// entry writes an entry that is no hard link.
func (t *tarrer) entry(ctx context.Context, n *pxar.Node, name string, depth int) error {
	h, err := tarHeader(&n.Entry, name)
	if err != nil {
		t.report.Skipped++
		t.note(fmt.Sprintf("%.200q: %v", name, err))
		return nil
	}
	t.drop(n, h)
	var content *io.SectionReader
	if n.Kind == pxar.File {
		if content, err = n.Content(); err != nil {
			t.lost[n.Position] = true
			return t.loss(ctx, name, err)
		}
		h.Size = content.Size()
	}
	if err := t.tar.WriteHeader(h); err != nil {
		if errors.Is(err, tar.ErrHeader) { // nothing was written
			t.lost[n.Position] = true
			return t.loss(ctx, name, err)
		}
		return err
	}
	switch n.Kind {
	case pxar.File:
		if err := t.content(ctx, content, name); err != nil {
			return err
		}
	case pxar.Dir:
		t.entered()
		return t.children(ctx, n, name, depth)
	}
	t.entered()
	return nil
}

// drop leaves out attributes that do not fit into a header, and counts entries
// that have some which tar does not keep.
func (t *tarrer) drop(n *pxar.Node, h *tar.Header) {
	size := 0
	for keyword, value := range h.PAXRecords {
		size += len(keyword) + len(value)
	}
	if size > maxTarAttrs {
		h.PAXRecords = nil
		t.note(fmt.Sprintf("%.200q: its attributes take %d bytes, too many for tar", h.Name, size))
	}
	if n.Flags != 0 || n.ProjectID != 0 || size > maxTarAttrs {
		t.report.Dropped++
	}
}

func (t *tarrer) entered() {
	t.report.Entries++
	t.progress()
}

func (t *tarrer) progress() {
	if t.opt.Progress != nil {
		t.opt.Progress(t.report.Entries, t.report.Bytes)
	}
}

func (t *tarrer) children(ctx context.Context, dir *pxar.Node, name string, depth int) error {
	for n, err := range dir.Entries() {
		if err != nil {
			t.gaps = true
			if err := t.loss(ctx, name, err); err != nil {
				return err
			}
			continue
		}
		if err := t.node(ctx, n, name+"/"+n.Name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// link writes a hard link. If its target is not in the tar archive, because it
// is not below the root, or may not be, because something could not be read,
// the first of its names gets the content, and the others link to that. A link repeats the metadata of its
// target: some programs set them again.
func (t *tarrer) link(ctx context.Context, n *pxar.Node, name string) error {
	file, err := n.Resolve()
	if err != nil {
		return t.loss(ctx, name, err)
	}
	target, ok := t.below(n.Target)
	if !ok || t.gaps || t.lost[n.Link] {
		if target, ok = t.outside[n.Link]; !ok {
			delete(t.lost, n.Link) // until it fails again
			err := t.entry(ctx, file, name, 0)
			if !t.lost[n.Link] {
				t.outside[n.Link] = name
			}
			return err
		}
	}
	h, err := tarHeader(&file.Entry, name)
	if err != nil {
		return t.loss(ctx, name, err)
	}
	h.Typeflag, h.Size, h.Linkname, h.PAXRecords = tar.TypeLink, 0, target, nil
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	t.entered()
	return nil
}

// below returns the name in the tar archive of what has a path in the pxar
// archive.
func (t *tarrer) below(path string) (string, bool) {
	if t.root == "" {
		return t.opt.Name + "/" + path, true
	}
	rest, ok := strings.CutPrefix(path, t.root+"/")
	return t.opt.Name + "/" + rest, ok
}

// content copies the content of a file, and puts zeros where it is lost.
func (t *tarrer) content(ctx context.Context, content *io.SectionReader, name string) error {
	damaged := false
	for off := int64(0); off < content.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		want := min(int64(len(t.buf)), content.Size()-off)
		n, err := content.ReadAt(t.buf[:want], off)
		if int64(n) == want {
			err = nil
		}
		if _, err := t.tar.Write(t.buf[:n]); err != nil {
			return err
		}
		t.report.Bytes += int64(n)
		off += int64(n)
		if err != nil {
			if !damaged {
				if err := t.loss(ctx, name, err); err != nil {
					return err
				}
			}
			damaged = true
			zeros := lostBytes(content, off, err)
			if err := t.zeros(ctx, zeros); err != nil {
				return err
			}
			off += zeros
		}
		t.progress()
	}
	return nil
}

// lostBytes returns how many bytes from off of a content cannot be read: to the
// end of the chunk, if that is what is lost, else all that follow.
func lostBytes(content *io.SectionReader, off int64, err error) int64 {
	rest := content.Size() - off
	var chunk *archive.ChunkError
	if !errors.As(err, &chunk) {
		return rest
	}
	_, base, _ := content.Outer()
	if n := chunk.Offset + chunk.Size - base - off; n > 0 && n < rest {
		return n
	}
	return rest
}

func (t *tarrer) zeros(ctx context.Context, n int64) error {
	zeros := make([]byte, min(n, zeroBytes))
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := t.tar.Write(zeros[:min(n, zeroBytes)])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}
