package overview

import (
	"context"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// Held counts the snapshots that lie in a datastore. It is for those of which the feed
// has not said anything yet: one that was just made of what a bucket has, on a new node.
func Held(ctx context.Context, t catalog.Tree) (n int, err error) {
	spaces, err := t.Namespaces(ctx, "", -1)
	if err != nil {
		return 0, err
	}
	for _, ns := range spaces {
		groups, err := t.Groups(ctx, ns)
		if err != nil {
			return n, err
		}
		for _, g := range groups {
			snaps, err := t.Snapshots(ctx, ns, g)
			if err != nil {
				return n, err
			}
			for _, s := range snaps {
				if _, err := t.FS.Stat(path.Join(t.Dir, ns.Path(), s.Path(), "index.json.blob")); err == nil { // it is finished
					n++
				}
			}
		}
	}
	return n, nil
}
