package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// listedStore is one line of datastore list.
type listedStore struct {
	Store       string       `json:"store"`
	Path        string       `json:"path"`
	Comment     string       `json:"comment,omitempty"`
	Maintenance catalog.Mode `json:"maintenance,omitempty"`
	Snapshots   int          `json:"snapshots"`
	Total       int64        `json:"total"` // of its file system, in bytes
	Avail       int64        `json:"avail"`
	Error       string       `json:"error,omitempty"`
}

func newList(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "list [DIR…]", Short: "list the stores of the node, or those in directories that are named", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.Repository == "" {
				return listNode(o, cmd.Context())
			}
			if len(args) == 0 {
				dir, err := o.Dir(nil)
				if err != nil {
					return err
				}
				args = []string{dir}
			}
			stores := []listedStore{}
			for _, dir := range args {
				found, err := storesIn(cmd.Context(), dir)
				if err != nil {
					return err
				}
				stores = append(stores, found...)
			}
			return o.Print(stores, func(w io.Writer) { listText(w, stores) })
		},
	}
}

// storesIn describes the store that dir is, or those that lie in it.
func storesIn(ctx context.Context, dir string) ([]listedStore, error) {
	if _, err := os.Stat(filepath.Join(dir, identity.File)); err == nil {
		return []listedStore{describeStore(ctx, dir)}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []listedStore
	for _, e := range entries {
		child := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(child, identity.File)); err == nil {
			found = append(found, describeStore(ctx, child))
		}
	}
	return found, nil
}

func describeStore(ctx context.Context, dir string) listedStore {
	s := listedStore{Store: filepath.Base(dir), Path: dir}
	err := func() error {
		t, err := cli.TreeOf(dir)
		if err != nil {
			return err
		}
		settings, err := t.Settings()
		if err != nil {
			return err
		}
		s.Comment, s.Maintenance = settings.Comment, settings.Maintenance.Mode
		space, err := disk.OS{}.Space(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.Total, s.Avail = space.TotalBytes, space.FreeBytes
		list, err := t.List(ctx, catalog.ListOptions{Depth: -1})
		s.Snapshots = len(list)
		return err
	}()
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func listText(w io.Writer, stores []listedStore) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "store\tsnapshots\tfree\tof\tpath\tstate")
	for _, s := range stores {
		state := s.Error
		if state == "" && s.Maintenance != "" {
			state = "maintenance: " + string(s.Maintenance)
		}
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%s\t%s\n", s.Store, s.Snapshots, cli.Size(s.Avail), cli.Size(s.Total), s.Path, state)
	}
	tab.Flush()
}
