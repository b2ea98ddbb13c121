package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A site is a datastore that can be served.
type site struct {
	name string
	d    *catalog.Datastore
}

// newSite makes a datastore, on the disk or in fsys.
func newSite(ctx context.Context, dir, name string, fsys disk.FS) (*site, error) {
	at := filepath.Join(dir, name)
	if fsys == nil {
		fsys = disk.OS{}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
	}
	if _, err := identity.Init(fsys, at, 0); err != nil {
		return nil, err
	}
	return openSite(ctx, dir, name, fsys)
}

func openSite(ctx context.Context, dir, name string, fsys disk.FS) (*site, error) {
	d, err := catalog.Open(ctx, catalog.Config{Dir: filepath.Join(dir, name), FS: fsys})
	return &site{name, d}, err
}

func (s *site) close() { _ = s.d.Close() }

func snapshot(group string, n int) naming.Snapshot {
	g, err := naming.ParseGroup(group)
	if err != nil {
		panic(err)
	}
	return naming.Snapshot{Group: g, Time: 1_767_000_000 + int64(n)*86_400}
}

// backUp makes a snapshot of n chunks of some size, of which those that a seed
// names twice are the same.
func (s *site) backUp(ctx context.Context, snap naming.Snapshot, size int, seeds []uint64) error {
	w, err := s.d.Begin(ctx, "", snap, "root@pam")
	if err != nil {
		return err
	}
	var b chunks.DynamicBuilder
	plain := make([]byte, size)
	for _, seed := range seeds {
		_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)}).Read(plain)
		c := chunktest.Encode(plain, chunks.EncodeOptions{})
		if _, err := w.Session().Put(ctx, c.Digest, c.Blob); err != nil {
			return err
		}
		if err := b.Append(b.End()+int64(size), c.Digest); err != nil {
			return err
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		return err
	}
	m := manifest.New(snap)
	return errors.Join(
		w.PutIndex("root.pxar.didx", x),
		m.Add(manifest.File{Name: "root.pxar.didx", Size: uint64(x.Size()), Csum: x.Csum()}),
		w.Finish(ctx, m))
}

// fill makes one snapshot of so many MiB in chunks of 4 MiB.
func (s *site) fill(ctx context.Context, mib int) error {
	return s.backUp(ctx, snapshot("vm/100", 0), 4<<20, series(0, mib/4))
}

func series(first, n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(first + i)
	}
	return list
}

// serve answers peers on a listener until ctx is done.
func (s *site) serve(ctx context.Context, l net.Listener) error {
	server, err := wire.NewServer(wire.ServerConfig{
		Names: func() []string { return []string{"main"} },
		Store: func(string) (wire.Store, wire.Chunks, error) { return s.d, s.d.Chunks(), nil },
		Who:   func(*http.Request) (string, bool) { return "puller", true },
		May:   func(string, string, naming.Namespace) bool { return true },
	})
	if err != nil {
		return err
	}
	h := &http.Server{Handler: server}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	err = h.Serve(l)
	if ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", s.name, err)
	}
	server.Wait()
	return nil
}
