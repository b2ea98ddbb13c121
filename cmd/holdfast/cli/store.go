package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/export"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// WithStore opens the store of chunks in dir for the time of fn.
func (o *Options) WithStore(ctx context.Context, dir string, acceptLoss bool, fn func(*pack.Store) error) error {
	s, err := pack.Open(ctx, pack.Config{Dir: dir, Log: o.Log(), AcceptLoss: acceptLoss})
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// WithDatastore opens the datastore in dir for the time of fn.
func (o *Options) WithDatastore(ctx context.Context, dir string, fn func(*catalog.Datastore) error) error {
	return o.WithDamaged(ctx, dir, false, fn)
}

// WithDamaged is WithDatastore, and opens an incomplete copy of a store if
// acceptLoss is true.
func (o *Options) WithDamaged(ctx context.Context, dir string, acceptLoss bool, fn func(*catalog.Datastore) error) error {
	if err := noTier(dir); err != nil {
		return err
	}
	d, err := catalog.Open(ctx, catalog.Config{Dir: dir, Log: o.Log(), AcceptLoss: acceptLoss})
	if err != nil {
		return err
	}
	return errors.Join(fn(d), d.Close())
}

// TreeOf returns the directories of the datastore in dir, ours or a PBS's, which
// can be read beside a process that has it open.
func TreeOf(dir string) (catalog.Tree, error) {
	if dir = filepath.Clean(dir); export.IsPBS(disk.OS{}, dir) {
		p, err := export.OpenPBS(disk.OS{}, dir)
		if err != nil {
			return catalog.Tree{}, err
		}
		return p.Tree, nil
	}
	if _, err := identity.Read(disk.OS{}, dir); err != nil {
		return catalog.Tree{}, err
	}
	return catalog.Tree{FS: disk.OS{}, Dir: dir}, nil
}

// Log prints what the packages below have to say: warnings, on stderr.
func (o *Options) Log() *slog.Logger {
	return slog.New(slog.NewTextHandler(o.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// A Place is what verbs about backups ask for: a store, and a namespace in it.
type Place struct {
	Store string // --store: a datastore of the node on this machine
	NS    string // --ns as it was given
}

// Add adds the flags --store and --ns.
func (p *Place) Add(cmd *cobra.Command) {
	p.AddStore(cmd)
	cmd.Flags().StringVar(&p.NS, "ns", "", "the namespace, such as customer/site; default: the root")
}

// AddStore adds the flag --store.
func (p *Place) AddStore(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.Store, "store", "", "the datastore of the node on this machine; default: the only one there is")
}

// Namespace returns the namespace that was asked for.
func (p *Place) Namespace() (catalog.Namespace, error) {
	ns, err := naming.ParseNamespace(p.NS)
	if err != nil {
		return "", usageError{err}
	}
	return ns, nil
}

// A Lister lists snapshots.
type Lister interface {
	List(ctx context.Context, opt catalog.ListOptions) ([]catalog.Info, error)
}

// Snapshot reads TYPE/ID/TIME, or TYPE/ID for the last finished one of a group.
func Snapshot(ctx context.Context, t Lister, ns catalog.Namespace, arg string) (catalog.Snapshot, error) {
	if strings.Count(arg, "/") != 1 {
		s, err := naming.ParseSnapshot(arg)
		if err != nil {
			return s, usageError{err}
		}
		return s, nil
	}
	g, err := naming.ParseGroup(arg)
	if err != nil {
		return catalog.Snapshot{}, usageError{err}
	}
	f, err := naming.ParseFilter("group:" + arg)
	if err != nil {
		return catalog.Snapshot{}, usageError{err}
	}
	all, err := t.List(ctx, catalog.ListOptions{Namespace: ns, Filters: naming.Filters{f}})
	if err != nil {
		return catalog.Snapshot{}, err
	}
	for _, i := range all { // newest first
		if i.Snapshot().Group == g && i.Finished() {
			return i.Snapshot(), nil
		}
	}
	return catalog.Snapshot{}, hinted{fmt.Errorf("group %s has no finished snapshot: %w", arg, os.ErrNotExist), "groups and snapshots are listed by: holdfast snapshot list"}
}

// CompleteSnapshots offers the snapshots of the store for the first argument.
func (o *Options) CompleteSnapshots(p *Place) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var list []catalog.Info
		err := o.WithPlace(cmd.Context(), p, func(t Store, ns catalog.Namespace) (err error) {
			list, err = t.List(cmd.Context(), catalog.ListOptions{Namespace: ns})
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := make([]string, len(list))
		for i, s := range list {
			names[i] = s.Snapshot().String()
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// WithOrigin opens a snapshot of the store for the time of fn.
func (o *Options) WithOrigin(ctx context.Context, p *Place, arg string, fn func(Origin) error) error {
	return o.WithPlace(ctx, p, func(t Store, ns catalog.Namespace) error {
		s, err := Snapshot(ctx, t, ns, arg)
		if err != nil {
			return err
		}
		r, err := t.Open(ctx, ns, s)
		if err != nil {
			return err
		}
		return errors.Join(fn(r), r.Close())
	})
}

// WithSnapshot opens a snapshot of the store for reading, with the key that it
// needs.
func (o *Options) WithSnapshot(ctx context.Context, p *Place, k *KeyFlags, arg string, fn func(archive.Options, func(archive.Options) *archive.Snapshot) error) error {
	key, err := k.Key(o)
	if err != nil {
		return err
	}
	return o.WithOrigin(ctx, p, arg, func(r Origin) error {
		return fn(archive.Options{Key: KeyFor(r, key)}, func(opt archive.Options) *archive.Snapshot { return archive.Open(r, opt) })
	})
}

// ListOptions puts together what a verb about many snapshots was asked for.
func ListOptions(p *Place, depth int, filters []string) (catalog.ListOptions, error) {
	ns, err := p.Namespace()
	if err != nil {
		return catalog.ListOptions{}, err
	}
	opt := catalog.ListOptions{Namespace: ns, Depth: depth}
	for _, s := range filters {
		f, err := naming.ParseFilter(s)
		if err != nil {
			return opt, usageError{err}
		}
		opt.Filters = append(opt.Filters, f)
	}
	return opt, nil
}

// IsIndex reports whether a file of a snapshot has chunks.
func IsIndex(name string) bool {
	return len(name) > 5 && (name[len(name)-5:] == ".fidx" || name[len(name)-5:] == ".didx")
}
