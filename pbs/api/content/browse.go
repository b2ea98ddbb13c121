package content

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/export/plain"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// catalogName is the file that lists what is in the archives of a snapshot.
const catalogName = "catalog.pcat1.didx"

// What reading an archive for one request may take of memory.
const (
	cacheBytes = 32 << 20
	aheadBytes = 8 << 20
)

// An entry is what is in a directory of a backup.
type entry struct {
	Path  string  `json:"filepath"` // in base64, with the name of the archive in front
	Text  string  `json:"text"`
	Type  string  `json:"type"` // one letter, as in catalogs
	Leaf  bool    `json:"leaf"`
	Size  *uint64 `json:"size,omitempty"`
	Mtime *int64  `json:"mtime,omitempty"`
}

func newEntry(dir []string, name string, typ byte) entry {
	full := "/" + path.Join(append(dir[:len(dir):len(dir)], name)...)
	return entry{Path: base64.StdEncoding.EncodeToString([]byte(full)), Text: strings.ToValidUTF8(name, "\uFFFD"), Type: string(typ), Leaf: typ != 'd'}
}

// filePath reads the parameter filepath: "root", "/", or a path in base64, the
// first component of which is the name of an archive.
func filePath(p *upgrade.Params) []string {
	return upgrade.Parsed(p, "filepath", func(text string) ([]string, error) {
		if text == "root" || text == "/" {
			return nil, nil
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("failed to decode base64 path")
		}
		return strings.FieldsFunc(string(b), func(c rune) bool { return c == '/' }), nil
	})
}

// catalog lists a directory of a backup. Where there is no catalog, as in
// backups whose metadata is an archive of its own, that is read instead.
func (a *api) catalog(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, s, dir := c.Store(), c.Namespace(), c.Snapshot(), filePath(c.Params)
	if c.Has("archive-name") {
		if name := c.Archive("archive-name"); name != catalogName && (len(dir) == 0 || dir[0] != name) {
			dir = append([]string{name}, dir...)
		}
	}
	v, err := a.enterGroup(c, store, ns, s.Group, read, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	r, err := v.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	snap, err := plainOf(r)
	if err != nil {
		return nil, err
	}
	if _, ok := r.Manifest().File(catalogName); !ok {
		return listArchives(ctx, r.Manifest(), snap, dir)
	}
	if err := clear(r.Manifest(), catalogName); err != nil {
		return nil, err
	}
	return listCatalog(ctx, snap, dir)
}

func listCatalog(ctx context.Context, snap *archive.Snapshot, dir []string) (any, error) {
	cat, err := snap.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	at := cat.Root()
	if len(dir) > 0 {
		if at, err = cat.Find(path.Join(dir...)); err != nil {
			return nil, notInside(dir, err)
		}
	}
	if !at.IsDir() {
		return nil, fmt.Errorf("'%s' is no directory", path.Join(dir...))
	}
	children, err := cat.Children(at)
	if err != nil {
		return nil, err
	}
	list := make([]entry, len(children))
	for i, child := range children {
		list[i] = newEntry(dir, child.Name, byte(child.Type))
		if child.Type == pxar.CatalogFile {
			list[i].Size, list[i].Mtime = &child.Size, &child.Mtime
		}
	}
	return list, nil
}

// notInside says that a path is not in a backup.
func notInside(dir []string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrNotFound) {
		return refuse("no such file '/%s' in the backup", path.Join(dir...))
	}
	return err
}

// listArchives lists the archives of a snapshot, or a directory in one.
func listArchives(ctx context.Context, m *manifest.Manifest, snap *archive.Snapshot, dir []string) (any, error) {
	list := []entry{}
	if len(dir) == 0 {
		for _, f := range m.Files {
			if strings.HasSuffix(f.Name, ".pxar.didx") || strings.HasSuffix(f.Name, ".mpxar.didx") {
				list = append(list, newEntry(nil, f.Name, 'd'))
			}
		}
		return list, nil
	}
	ar, node, err := find(ctx, m, snap, dir)
	if err != nil {
		return nil, err
	}
	defer ar.Close()
	if node.Kind != pxar.Dir {
		return nil, fmt.Errorf("'%s' is no directory", path.Join(dir...))
	}
	for child, err := range node.Entries() {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e := newEntry(dir, child.Name, letters[child.Kind])
		if child.Kind == pxar.File {
			size, mtime := uint64(child.Size), child.Mtime.Time().Unix()
			e.Size, e.Mtime = &size, &mtime
		}
		list = append(list, e)
	}
	return list, nil
}

// letters are those of catalogs.
var letters = map[pxar.Kind]byte{
	pxar.Dir: 'd', pxar.File: 'f', pxar.Symlink: 'l', pxar.Hardlink: 'h',
	pxar.BlockDevice: 'b', pxar.CharDevice: 'c', pxar.Fifo: 'p', pxar.Socket: 's',
}

// find opens the archive that a path begins with, and finds the rest in it.
func find(ctx context.Context, m *manifest.Manifest, snap *archive.Snapshot, dir []string) (*archive.Archive, *pxar.Node, error) {
	if err := clear(m, dir[0]); err != nil {
		return nil, nil, err
	}
	ar, err := snap.Archive(ctx, dir[0], archive.ReaderOptions{Cache: cacheBytes, Ahead: aheadBytes})
	if err != nil {
		return nil, nil, notInside(dir[:1], err)
	}
	node, err := ar.Find(path.Join(dir[1:]...))
	if err == nil {
		node, err = node.Resolve()
	}
	if err != nil {
		return nil, nil, errors.Join(notInside(dir, err), ar.Close())
	}
	return ar, node, nil
}

// downloadFile answers with a file of an archive, or with a directory of it as
// a zip archive, or a tar archive with zstd.
func (a *api) downloadFile(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, s, dir, tar := c.Store(), c.Namespace(), c.Snapshot(), filePath(c.Params), c.Bool("tar")
	if c.Has("archive-name") {
		if name := c.Archive("archive-name"); len(dir) == 0 || dir[0] != name {
			dir = append([]string{name}, dir...)
		}
	}
	v, err := a.enterGroup(c, store, ns, s.Group, read, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	if len(dir) == 0 {
		return nil, errors.New("the path has to begin with the name of an archive")
	}
	r, err := v.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	snap, err := plainOf(r)
	if err != nil {
		return nil, err
	}
	ar, node, err := find(ctx, r.Manifest(), snap, dir)
	if err != nil {
		return nil, err
	}
	defer ar.Close()
	switch {
	case node.Kind == pxar.File:
		return stream(c, func(w io.Writer) error { return copyFile(w, node) })
	case node.Kind != pxar.Dir:
		return nil, fmt.Errorf("'/%s' is a %s, and neither a file nor a directory", path.Join(dir...), node.Kind)
	case tar:
		return stream(c, func(w io.Writer) error { return writeTar(ctx, w, node, path.Base(path.Join(dir[1:]...))) })
	}
	return stream(c, func(w io.Writer) error { return writeZip(ctx, w, node, path.Join(dir[1:]...)) })
}

func copyFile(w io.Writer, n *pxar.Node) error {
	content, err := n.Content()
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{content}, make([]byte, 256<<10))
	return err
}

func writeTar(ctx context.Context, w io.Writer, n *pxar.Node, name string) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(4<<20))
	if err != nil {
		return err
	}
	_, err = plain.Tar(ctx, z, n, plain.TarOptions{Name: name})
	return errors.Join(err, z.Close())
}
