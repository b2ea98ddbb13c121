// Package compare tells what differs between two snapshots: files of a tree,
// ranges of an image.
//
// Content is not read where that can be avoided. Files whose size, time and
// place in the chunks agree are the same; images are compared chunk by chunk,
// by name.
package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Kind says how an entry differs.
type Kind string

// The kinds of differences.
const (
	Added    Kind = "added"    // is in the second snapshot only
	Removed  Kind = "removed"  // is in the first only
	Content  Kind = "content"  // of a file, a link or a device
	Metadata Kind = "metadata" // owner, mode, attributes or time only
	Type     Kind = "type"     // a file became a directory, for example
)

// A Change is one difference of two trees. Below a directory that was added or
// removed nothing is listed.
type Change struct {
	Kind Kind   `json:"kind"`
	Path string `json:"path"` // from the root, without a slash in front
	Type string `json:"type"` // "file", "directory", …; of the second, if there are two
	Old  int64  `json:"old-size,omitempty"`
	New  int64  `json:"new-size,omitempty"`
}

// TreeOptions say how closely trees are compared.
type TreeOptions struct {
	// Deep reads the content of files whose size and time agree as well.
	Deep bool
}

// Trees calls fn for every difference of two archives of directories, in order
// of their paths, each directory before what is in it. It ends with the first
// error of fn.
func Trees(ctx context.Context, a, b *pxar.Archive, opt TreeOptions, fn func(Change) error) error {
	x, err := a.Root()
	if err != nil {
		return err
	}
	y, err := b.Root()
	if err != nil {
		return err
	}
	t := trees{ctx, opt, fn}
	type pair struct {
		x, y *pxar.Node
		path string
	}
	// A stack of our own: an archive may be deeper than that of a goroutine
	// should be.
	stack := []pair{{x, y, ""}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.path == "" {
			if err := t.one(p.x, p.y, p.path); err != nil {
				return err
			}
		}
		common, err := t.directory(p.x, p.y, p.path)
		if err != nil {
			return err
		}
		for i := len(common) - 1; i >= 0; i-- {
			c := common[i]
			stack = append(stack, pair{c[0], c[1], path.Join(p.path, c[1].Name)})
		}
	}
	return nil
}

type trees struct {
	ctx context.Context
	opt TreeOptions
	fn  func(Change) error
}

// directory compares two directories and returns the directories that both
// have.
func (t *trees) directory(x, y *pxar.Node, at string) (common [][2]*pxar.Node, err error) {
	old, err := x.Children()
	if err != nil {
		return nil, fmt.Errorf("list %q of the first snapshot: %w", at, err)
	}
	now, err := y.Children()
	if err != nil {
		return nil, fmt.Errorf("list %q of the second snapshot: %w", at, err)
	}
	for len(old) > 0 || len(now) > 0 {
		if err := t.ctx.Err(); err != nil {
			return nil, err
		}
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].Name < now[0].Name:
			err = t.fn(Change{Removed, path.Join(at, old[0].Name), old[0].Kind.String(), old[0].Size, 0})
			old = old[1:]
		case len(old) == 0 || now[0].Name < old[0].Name:
			err = t.fn(Change{Added, path.Join(at, now[0].Name), now[0].Kind.String(), 0, now[0].Size})
			now = now[1:]
		default:
			err = t.one(old[0], now[0], path.Join(at, now[0].Name))
			if old[0].Kind == pxar.Dir && now[0].Kind == pxar.Dir {
				common = append(common, [2]*pxar.Node{old[0], now[0]})
			}
			old, now = old[1:], now[1:]
		}
		if err != nil {
			return nil, err
		}
	}
	return common, nil
}

// one compares two entries of one name.
func (t *trees) one(x, y *pxar.Node, at string) error {
	c := Change{Path: at, Type: y.Kind.String(), Old: x.Size, New: y.Size}
	switch {
	case x.Kind != y.Kind:
		c.Kind = Type
	case x.Size != y.Size || x.Target != y.Target || x.Device != y.Device:
		c.Kind = Content
	default:
		same, err := t.sameContent(x, y)
		switch {
		case err != nil:
			return fmt.Errorf("compare %q: %w", at, err)
		case !same:
			c.Kind = Content
		case !reflect.DeepEqual(x.Metadata, y.Metadata):
			c.Kind = Metadata
		default:
			return nil
		}
	}
	return t.fn(c)
}

// sameContent reports whether two files of one size have the same content:
// those of one time count as such, unless the comparison is deep.
func (t *trees) sameContent(x, y *pxar.Node) (bool, error) {
	if x.Kind != pxar.File || x.Mtime == y.Mtime && !t.opt.Deep {
		return true, nil
	}
	a, err := x.Content()
	if err != nil {
		return false, err
	}
	b, err := y.Content()
	if err != nil {
		return false, err
	}
	return equal(t.ctx, a, b)
}

// block is how many bytes are compared at a time.
const block = 1 << 20

func equal(ctx context.Context, a, b io.Reader) (bool, error) {
	p, q := make([]byte, block), make([]byte, block)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, errA := io.ReadFull(a, p)
		m, errB := io.ReadFull(b, q)
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}

// A Range is a stretch of content in bytes: [Start, End).
type Range struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// Images returns the ranges of the second image that differ from the first,
// joined where they touch, as far as their chunks tell. Where one image is
// longer, what only it has counts as different. It fails if they were cut into
// chunks in different ways.
func Images(a, b chunks.Index) ([]Range, error) {
	var diff []Range
	add := func(start, end int64) {
		if n := len(diff); n > 0 && diff[n-1].End == start {
			diff[n-1].End = end
			return
		}
		diff = append(diff, Range{start, end})
	}
	for i := range max(a.Len(), b.Len()) {
		switch {
		case i >= b.Len():
			start, end := a.Range(i)
			add(start, end)
		case i >= a.Len():
			start, end := b.Range(i)
			add(start, end)
		default:
			start, end := b.Range(i)
			other, otherEnd := a.Range(i)
			if start != other {
				return nil, errors.New("the two images are cut into chunks of different sizes")
			}
			if a.Digest(i) != b.Digest(i) {
				add(start, max(end, otherEnd))
			}
		}
	}
	return diff, nil
}
