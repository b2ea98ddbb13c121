package cloud

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	packs "github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A site is one node with a bucket, for tests.
type site struct {
	t      testing.TB
	server *cloudtest.Server
	proxy  *cloudtest.Proxy
	b      *bucket.Bucket
	key    *age.X25519Identity
	id     format.ID
}

// newSite makes a server, a proxy and a store in its bucket.
func newSite(t testing.TB, encrypt bool) *site {
	t.Helper()
	srv := cloudtest.Start(t)
	p := cloudtest.Front(t, srv)
	key, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, server: srv, proxy: p, b: cloudtest.Open(t, p.URL), key: key}
	s.id, err = identity.Create(t.Context(), s.b, identity.Options{
		Encrypt: encrypt, Recipients: []age.Recipient{key.Recipient()}, Proof: key, PackBytes: 4 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) dir() string { return s.server.Dir }

// local makes or opens a local store.
func local(t testing.TB, dir string) *pack.Store {
	t.Helper()
	name := filepath.Join(dir, "local")
	if _, err := (disk.OS{}).Stat(name); err != nil {
		if _, err := packs.Init(hasty{}, name, packs.MinPackBytes); err != nil {
			t.Fatal(err)
		}
	}
	s, err := pack.Open(context.Background(), pack.Config{FS: hasty{}, Direct: disk.Never, Dir: name})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// node opens the store from a directory, and closes it with the test.
func (s *site) node(dir string, change ...func(*Config)) *Store {
	s.t.Helper()
	cfg := Config{
		Local: local(s.t, dir), Bucket: s.b, FS: hasty{}, Dir: filepath.Join(dir, "cloud"), Node: "home",
		Keys: []age.Identity{s.key}, Grace: time.Nanosecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	store, err := Open(s.t.Context(), cfg, s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { stop(store) })
	return store
}

// owner is node, and owns the bucket.
func (s *site) owner(dir string, change ...func(*Config)) *Store {
	s.t.Helper()
	store := s.node(dir, change...)
	if err := store.Acquire(s.t.Context(), AcquireOptions{Force: true}); err != nil {
		s.t.Fatal(err)
	}
	return store
}

// stop closes a store and its local store, also if it is closed already.
func stop(s *Store) { _ = errors.Join(s.Close(), s.local.Close()) }

func put(t testing.TB, s chunks.Writer, size int, from, n uint64) (cs []chunktest.Chunk) {
	t.Helper()
	for i := range n {
		c := chunktest.Blob(from+i, size)
		if _, err := s.Put(context.Background(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	if err := s.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	return cs
}

func offload(t testing.TB, s *Store) OffloadReport {
	t.Helper()
	r, err := s.Offload(context.Background(), OffloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantAll wants every chunk to be known and to come back, one at a time and
// all at once.
func wantAll(t testing.TB, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	for _, c := range cs {
		b, err := s.Get(context.Background(), c.Digest, nil)
		if err != nil || !bytes.Equal(b, c.Blob) {
			t.Fatalf("get: %v", err)
		}
	}
	wantMany(t, s, cs)
}

// wantMany wants every chunk to come back, all at once.
func wantMany(t testing.TB, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	var ds []chunks.Digest
	blobs := map[chunks.Digest]chunks.Blob{}
	for _, c := range cs {
		ds = append(ds, c.Digest)
		blobs[c.Digest] = c.Blob
	}
	missing, err := s.Missing(context.Background(), ds)
	if err != nil || len(missing) > 0 {
		t.Fatalf("%d of %d chunks are missing, %v", len(missing), len(cs), err)
	}
	err = s.GetMany(context.Background(), ds, func(d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil && !bytes.Equal(b, blobs[d]) {
			err = errors.New("other bytes")
		}
		return err
	})
	if err != nil {
		t.Fatalf("get many: %v", err)
	}
}

// The suite of every store, with everything that is committed in the bucket.
func TestConformance(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "sealed"}[encrypt], func(t *testing.T) {
			t.Parallel()
			s := newSite(t, encrypt)
			fresh := func(t *testing.T) chunks.Writer {
				one := &site{t: t, proxy: s.proxy, b: s.b.Sub(format.NewID().String()), key: s.key}
				var err error
				one.id, err = identity.Create(t.Context(), one.b, identity.Options{
					Encrypt: encrypt, Recipients: []age.Recipient{s.key.Recipient()}, Proof: s.key, PackBytes: 4 << 20,
				})
				if err != nil {
					t.Fatal(err)
				}
				return uploading{one.owner(t.TempDir())}
			}
			reopen := func(t *testing.T, w chunks.Writer) chunks.Writer {
				u := w.(uploading)
				cfg := u.cfg
				dir := filepath.Dir(cfg.Dir)
				stop(u.Store)
				cfg.Local = local(t, dir)
				again, err := Open(t.Context(), cfg, u.format.Store)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { stop(again) })
				if err := again.Acquire(t.Context(), AcquireOptions{}); err != nil {
					t.Fatal(err)
				}
				return uploading{again}
			}
			chunktest.Run(t, fresh, chunktest.Options{Reopen: reopen})
		})
	}
}

// uploading is a store whose Commit reaches the bucket.
type uploading struct{ *Store }

func (u uploading) Commit(ctx context.Context) error {
	if err := u.Store.Commit(ctx); err != nil {
		return err
	}
	_, err := u.Offload(ctx, OffloadOptions{})
	return err
}
