//go:build linux

package tree

import (
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
)

// selects reports whether a child of top is wanted.
func (x *extractor) selects(top *level, node *pxar.Node) bool {
	if x.opt.Patterns == nil {
		return true
	}
	return x.verdict(top.dir.path(node.Name), node.Kind == pxar.Dir, top.selected)
}

// verdict is what the patterns say of path; parent is what they say of the
// directory it is in.
func (x *extractor) verdict(path string, isDir, parent bool) bool {
	switch x.opt.Patterns.Match(path, isDir) {
	case match.Matched:
		return true
	case match.Negated:
		return false
	}
	return parent
}

// selectsPath is selects for a whole path, from the root down.
func (x *extractor) selectsPath(path string, isDir bool) bool {
	if x.opt.Patterns == nil {
		return true
	}
	wanted := false
	for i := range len(path) {
		if path[i] == '/' {
			wanted = x.verdict(path[:i], true, wanted)
		}
	}
	return x.verdict(path, isDir, wanted)
}
