package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/export"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// A dirStore is a datastore in a directory, ours or a PBS's. Looking at it goes
// beside whoever has it open; what reads chunks or changes something opens it.
type dirStore struct {
	o   *Options
	dir string

	d *catalog.Datastore // once it was opened
}

func (s *dirStore) String() string { return s.dir }

func (s *dirStore) tree() (catalog.Tree, error) { return TreeOf(s.dir) }

// open opens the datastore, once.
func (s *dirStore) open(ctx context.Context) (*catalog.Datastore, error) {
	if s.d == nil {
		if err := noTier(s.dir); err != nil {
			return nil, err
		}
		d, err := catalog.Open(ctx, catalog.Config{Dir: s.dir, Log: s.o.Log()})
		if err != nil {
			return nil, err
		}
		s.d = d
	}
	return s.d, nil
}

func (s *dirStore) Close() error {
	if s.d == nil {
		return nil
	}
	return s.d.Close()
}

// noTier refuses the local part of a datastore whose home is a bucket: alone, it
// would look as if chunks were lost.
func noTier(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "cloud", "tier.json")); err != nil {
		return nil
	}
	return hinted{
		fmt.Errorf("%s is the local part of a datastore whose home is a bucket", dir),
		"give the name of the datastore, while its node runs; or read the bucket itself: --repository s3://BUCKET/PREFIX --recovery-key-file FILE",
	}
}

// change does something with the open datastore.
func (s *dirStore) change(ctx context.Context, fn func(*catalog.Datastore) error) error {
	d, err := s.open(ctx)
	if err != nil {
		return err
	}
	return fn(d)
}

func (s *dirStore) List(ctx context.Context, opt catalog.ListOptions) ([]catalog.Info, error) {
	t, err := s.tree()
	if err != nil {
		return nil, err
	}
	return t.List(ctx, opt)
}

func (s *dirStore) Describe(_ context.Context, ns catalog.Namespace, snap catalog.Snapshot) (catalog.Info, error) {
	t, err := s.tree()
	if err != nil {
		return catalog.Info{}, err
	}
	i, err := t.Describe(ns, snap)
	if err != nil {
		return i, err
	}
	if i.Owner, err = t.Owner(ns, snap.Group); err != nil {
		i.Owner = "" // a group without one can be looked at
	}
	return i, nil
}

func (s *dirStore) Notes(_ context.Context, ns catalog.Namespace, snap catalog.Snapshot) (string, error) {
	t, err := s.tree()
	if err != nil {
		return "", err
	}
	m, err := t.Manifest(ns, snap)
	if err != nil {
		return "", err
	}
	return m.Notes(), nil
}

func (s *dirStore) SetNotes(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot, notes string) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.SetNotes(ns, snap, notes) })
}

func (s *dirStore) Protected(_ context.Context, ns catalog.Namespace, snap catalog.Snapshot) (bool, error) {
	t, err := s.tree()
	if err != nil {
		return false, err
	}
	return t.Protected(ns, snap)
}

func (s *dirStore) SetProtected(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot, on bool) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.SetProtected(ns, snap, on) })
}

func (s *dirStore) Forget(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.Forget(ctx, ns, snap) })
}

func (s *dirStore) Undo(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.Undo(ctx, ns, snap) })
}

func (s *dirStore) Trash(context.Context) ([]catalog.Trashed, error) {
	t, err := s.tree()
	if err != nil {
		return nil, err
	}
	return t.Trash()
}

func (s *dirStore) Prune(ctx context.Context, opt catalog.PruneOptions) (plan []catalog.Pruned, err error) {
	err = s.change(ctx, func(d *catalog.Datastore) error {
		plan, err = d.Prune(ctx, opt)
		return err
	})
	return plan, err
}

// Groups returns the groups that have a snapshot, as a server does.
func (s *dirStore) Groups(ctx context.Context, ns catalog.Namespace) ([]client.Group, error) {
	list, err := s.List(ctx, catalog.ListOptions{Namespace: ns})
	if err != nil {
		return nil, err
	}
	groups := []client.Group{}
	for _, i := range list { // newest first
		n := len(groups)
		if n == 0 || groups[n-1].Group() != i.Snapshot().Group {
			groups = append(groups, client.Group{Type: i.Type, ID: i.ID, LastBackup: i.Time, Owner: i.Owner, Files: []string{}})
			n++
			for _, f := range i.Files {
				groups[n-1].Files = append(groups[n-1].Files, f.Name)
			}
		}
		groups[n-1].Count++
	}
	return groups, nil
}

func (s *dirStore) ForgetGroup(ctx context.Context, ns catalog.Namespace, g catalog.Group) error {
	return s.change(ctx, func(d *catalog.Datastore) error {
		_, err := d.ForgetGroup(ctx, ns, g)
		return err
	})
}

func (s *dirStore) ChangeOwner(ctx context.Context, ns catalog.Namespace, g catalog.Group, owner string) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.SetOwner(ns, g, owner) })
}

func (s *dirStore) Namespaces(ctx context.Context, under catalog.Namespace, depth int) ([]catalog.Namespace, error) {
	t, err := s.tree()
	if err != nil {
		return nil, err
	}
	return t.Namespaces(ctx, under, depth)
}

func (s *dirStore) CreateNamespace(ctx context.Context, ns catalog.Namespace) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.CreateNamespace(ns) })
}

func (s *dirStore) RemoveNamespace(ctx context.Context, ns catalog.Namespace, groups bool) error {
	return s.change(ctx, func(d *catalog.Datastore) error { return d.RemoveNamespace(ctx, ns, groups) })
}

// unclosed gives what needs no word at the end a Close that returns an error.
type unclosed struct {
	archive.Origin
	close func()
}

func (u unclosed) Close() error {
	u.close()
	return nil
}

func (s *dirStore) Open(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot) (Origin, error) {
	if export.IsPBS(disk.OS{}, s.dir) {
		p, err := export.OpenPBS(disk.OS{}, s.dir)
		if err != nil {
			return nil, err
		}
		r, err := p.OpenSnapshot(ctx, ns, snap)
		if err != nil {
			return nil, err
		}
		return unclosed{r, r.Close}, nil
	}
	d, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	r, err := d.OpenSnapshot(ctx, ns, snap)
	if err != nil {
		return nil, err
	}
	return unclosed{r, r.Close}, nil
}

func (s *dirStore) Begin(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot, owner string, _ *chunks.Key) (Target, error) {
	d, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	w, err := d.Begin(ctx, ns, snap, owner)
	if err != nil {
		return nil, err
	}
	return dirTarget{w}, nil
}

// dirTarget is a snapshot in the making as package archive wants it.
type dirTarget struct{ w *catalog.Writer }

func (t dirTarget) Open(_ context.Context, name string, _ int64) (archive.Sink, error) {
	return dirSink{t.w.Session(), t.w, name}, nil
}

func (t dirTarget) PutBlob(_ context.Context, name string, b chunks.Blob) error {
	return t.w.PutBlob(name, b)
}

func (t dirTarget) Finish(ctx context.Context, m *manifest.Manifest) error { return t.w.Finish(ctx, m) }

func (t dirTarget) Abort() error { return t.w.Abort() }

// dirSink writes one archive.
type dirSink struct {
	session
	w    *catalog.Writer
	name string
}

// session is what of a gc.Session a sink needs.
type session interface {
	chunks.Writer
	chunks.Knower
}

func (s dirSink) Append(context.Context, chunks.Stored) error { return nil } // the index says it all

func (s dirSink) Close(_ context.Context, x chunks.Index) error { return s.w.PutIndex(s.name, x) }

// NeedsDirectory is the error of a verb that looks into packs, which a server
// does not show.
var errNeedsDirectory = errors.New("this needs the directory of the store: --repository /PATH")

// Directory returns the directory of a store that is in one and is not open
// elsewhere, and an error for others.
func (o *Options) Directory() (string, error) {
	if o.Repository == "" || !isDirectory(o.Repository) {
		return "", usageError{errNeedsDirectory}
	}
	return o.Repository, nil
}
