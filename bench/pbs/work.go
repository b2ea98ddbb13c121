package main

import (
	"context"
	"errors"
	"os"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// next returns a snapshot that is later than all before.
func (b *bench) next(id string) naming.Snapshot {
	b.lastSnapshot++
	return naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: id}, Time: b.lastSnapshot}
}

func (b *bench) source(what string) archive.Source {
	if what == "image" {
		return archive.Source{Kind: archive.Image, Name: "disk.img", Path: b.path("image")}
	}
	return archive.Source{Kind: archive.Tree, Name: "root.pxar", Path: b.path("tree")}
}

// size returns the MiB of a source.
func (b *bench) size(what string) int {
	if what == "image" {
		return b.imgN
	}
	return b.treeN
}

// remote makes a backup through a server.
func remote(ctx context.Context, c *client.Client, s naming.Snapshot, src archive.Source) error {
	t, err := c.Begin(ctx, "", s, nil)
	if err != nil {
		return err
	}
	defer t.Abort()
	m, _, err := archive.Backup(ctx, archive.Config{Target: t, Snapshot: s, Sources: []archive.Source{src}})
	if err != nil {
		return err
	}
	return t.Finish(ctx, m)
}

// direct makes a backup right into a store.
func direct(ctx context.Context, d *catalog.Datastore, s naming.Snapshot, src archive.Source) error {
	w, err := d.Begin(ctx, "", s, "root@pam")
	if err != nil {
		return err
	}
	m, _, err := archive.Backup(ctx, archive.Config{Target: target{w}, Snapshot: s, Sources: []archive.Source{src}})
	if err == nil {
		err = w.Finish(ctx, m)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

// target is a snapshot in the making as package archive wants it.
type target struct{ w *catalog.Writer }

func (t target) Open(_ context.Context, name string, _ int64) (archive.Sink, error) {
	return sink{t.w.Session(), t.w, name}, nil
}

func (t target) PutBlob(_ context.Context, name string, b chunks.Blob) error {
	return t.w.PutBlob(name, b)
}

// sink is one archive of it.
type sink struct {
	*gc.Session
	w    *catalog.Writer
	name string
}

func (sink) Append(context.Context, chunks.Stored) error { return nil }

func (sink) Commit(context.Context) error { return nil }

func (s sink) Close(_ context.Context, x chunks.Index) error { return s.w.PutIndex(s.name, x) }

// fetch restores what a snapshot has.
func (b *bench) fetch(ctx context.Context, origin archive.Origin, s *server, what string, took *costs) error {
	to := b.path("restored")
	defer os.RemoveAll(to)
	snap := archive.Open(origin, archive.Options{})
	return timed(took, s, func() error {
		if what == "image" {
			return snap.Save(ctx, "disk.img.fidx", to)
		}
		_, err := snap.RestoreTree(ctx, "root.pxar.didx", to, tree.ExtractOptions{})
		return err
	})
}
