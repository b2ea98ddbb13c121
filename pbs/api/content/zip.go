package content

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// Limits of what is written to a zip archive.
const (
	maxZipDepth = 2048  // levels: no path of Linux (PATH_MAX) has more
	maxZipName  = 65535 // bytes, of the format
)

// writeZip writes a directory with what is below it as a zip archive. Paths
// begin with the name of the directory. Hard links become files of their own;
// devices, pipes and sockets are left out, for zip has none.
func writeZip(ctx context.Context, w io.Writer, root *pxar.Node, name string) error {
	z := zipper{ctx: ctx, zip: zip.NewWriter(w)}
	name = path.Base(name)
	if name == "." || name == "/" {
		name = ""
	}
	if err := z.dir(root, name, 0); err != nil {
		return fmt.Errorf("write zip archive: %w", err)
	}
	return z.zip.Close()
}

type zipper struct {
	ctx context.Context
	zip *zip.Writer
}

func (z *zipper) dir(n *pxar.Node, name string, depth int) error {
	if depth > maxZipDepth {
		return errors.New("directories lie too deep")
	}
	if name != "" {
		if _, err := z.add(n, name+"/", fs.ModeDir); err != nil {
			return err
		}
	}
	children, err := n.Children()
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := z.node(child, path.Join(name, child.Name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (z *zipper) node(n *pxar.Node, name string, depth int) error {
	if err := z.ctx.Err(); err != nil {
		return err
	}
	switch n.Kind {
	case pxar.Dir:
		return z.dir(n, name, depth)
	case pxar.Symlink:
		w, err := z.add(n, name, fs.ModeSymlink)
		if err == nil {
			_, err = io.WriteString(w, n.Target)
		}
		return err
	case pxar.Hardlink:
		of, err := n.Resolve()
		if err != nil {
			return err
		}
		n = of
	case pxar.File:
	default:
		return nil
	}
	w, err := z.add(n, name, 0)
	if err != nil {
		return err
	}
	return copyFile(w, n)
}

// add begins an entry with the metadata of a node.
func (z *zipper) add(n *pxar.Node, name string, typ fs.FileMode) (io.Writer, error) {
	if len(name) > maxZipName {
		return nil, fmt.Errorf("%.200q is too long for zip", name)
	}
	h := &zip.FileHeader{Name: name, Modified: n.Mtime.Time()}
	h.SetMode(typ | fs.FileMode(n.Mode&0o777))
	if typ == 0 {
		h.Method = zip.Deflate
	}
	return z.zip.CreateHeader(h)
}
