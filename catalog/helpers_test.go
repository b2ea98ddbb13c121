package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/elapsed"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

const (
	storeDir    = "/store"
	alice       = "alice@pbs"
	bob         = "bob@pbs"
	archiveName = "root.pxar.didx"
	configName  = "guest.conf.blob"
)

// The compressor makes channels when it is first used, and that must not be in
// the bubble of one test.
func init() {
	b, err := manifest.New(snap("vm/1", 0)).Blob()
	if err == nil {
		_, err = manifest.ParseBlob(b)
	}
	if err != nil {
		panic(err)
	}
}

// day0 is when the tests begin: a Thursday, so that weeks differ from months.
var day0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// group and snap make names of guests: snap("vm/100", 3) is of the third day.
func group(s string) Group {
	g, err := naming.ParseGroup(s)
	if err != nil {
		panic(err)
	}
	return g
}

func snap(g string, day int) Snapshot {
	return Snapshot{Group: group(g), Time: day0.AddDate(0, 0, day).Unix()}
}

// A clock is what a datastore takes for the time.
type clock struct {
	mu  sync.Mutex
	now time.Time
	up  time.Duration // of the machine, since its start

	boots string
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.up += d
}

// jump moves what the machine takes for the time, and no more.
func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) uptime() elapsed.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return elapsed.Reading{Boot: "one" + c.boots, Up: c.up, Wall: c.now}
}

// newClock returns one that shows a month after the first backups.
func newClock() *clock { return &clock{now: day0.AddDate(0, 1, 0)} }

// newMem returns a disk on which the store need not measure whether bypassing
// the page cache pays: that takes longer than all else here.
func newMem() *disktest.Mem {
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	return mem
}

// newStore makes a datastore in memory and opens it.
func newStore(t testing.TB) (*Datastore, *disktest.Mem, *clock) {
	t.Helper()
	mem, c := newMem(), newClock()
	if _, err := identity.Init(mem, storeDir, 0); err != nil {
		t.Fatal(err)
	}
	return openStore(t, mem, storeDir, c), mem, c
}

// openStore opens a datastore until the test ends.
func openStore(t testing.TB, fsys disk.FS, dir string, c *clock) *Datastore {
	t.Helper()
	d, err := Open(context.Background(), Config{Dir: dir, FS: fsys, Now: c.Now, Uptime: c.uptime})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // may be closed already
	return d
}

// made are the chunks by their seeds: making them takes longer than storing.
var made sync.Map

func chunk(seed uint64) chunktest.Chunk {
	if c, ok := made.Load(seed); ok {
		return c.(chunktest.Chunk)
	}
	c := chunktest.Blob(seed, 300+int(seed%7)*811)
	made.Store(seed, c)
	return c
}

// index makes the index of an archive of the chunks of seeds.
func index(seeds ...uint64) (chunks.Index, error) {
	var b chunks.DynamicBuilder
	for _, seed := range seeds {
		c := chunk(seed)
		if err := b.Append(b.End()+int64(len(c.Blob)), c.Digest); err != nil {
			return nil, err
		}
	}
	return b.Finish(chunks.NewUUID(), time.Unix(1, 0))
}

// config makes the small file of a backup.
func config(s Snapshot, seeds []uint64) chunks.Blob {
	return chunktest.Encode(fmt.Appendf(nil, "%s has %v", s, seeds), chunks.EncodeOptions{}).Blob
}

// fill puts the content of seeds into a snapshot, and returns its manifest.
func fill(ctx context.Context, w *Writer, s Snapshot, seeds ...uint64) (*Manifest, error) {
	for _, seed := range seeds {
		c := chunk(seed)
		if _, err := w.Session().Put(ctx, c.Digest, c.Blob); err != nil {
			return nil, err
		}
	}
	x, err := index(seeds...)
	if err != nil {
		return nil, err
	}
	conf := config(s, seeds)
	if err := errors.Join(w.PutIndex(archiveName, x), w.PutBlob(configName, conf)); err != nil {
		return nil, err
	}
	m := manifest.New(s)
	return m, errors.Join(
		m.Add(manifest.File{Name: archiveName, Size: uint64(x.Size()), Csum: x.Csum()}),
		m.Add(manifest.File{Name: configName, Size: uint64(len(conf)), Csum: sha256.Sum256(conf)}),
	)
}

// backup makes a snapshot of the chunks of seeds.
func backup(ctx context.Context, d *Datastore, ns Namespace, s Snapshot, owner string, seeds ...uint64) error {
	w, err := d.Begin(ctx, ns, s, owner)
	if err != nil {
		return err
	}
	m, err := fill(ctx, w, s, seeds...)
	if err == nil {
		err = w.Finish(ctx, m)
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}

// mustBackUp makes a snapshot of alice's.
func mustBackUp(t testing.TB, d *Datastore, ns Namespace, s Snapshot, seeds ...uint64) {
	t.Helper()
	if len(seeds) == 0 {
		seeds = []uint64{1, 2, 3}
	}
	must(t, backup(t.Context(), d, ns, s, alice, seeds...))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless err is want, and says what is to be done if
// somebody can do something.
func wants(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// verify reads a finished snapshot from front to back.
func verify(ctx context.Context, d *Datastore, ns Namespace, s Snapshot, seeds []uint64) error {
	r, err := d.OpenSnapshot(ctx, ns, s)
	if err != nil {
		return err
	}
	defer r.Close()
	x, err := r.Index(archiveName)
	if err != nil {
		return err
	}
	if f, ok := r.Manifest().File(archiveName); !ok || f.Csum != x.Csum() || len(r.Manifest().Files) != 2 {
		return fmt.Errorf("manifest of %s does not fit: %+v", s, r.Manifest().Files)
	}
	b, err := r.Blob(configName)
	if err != nil || !bytes.Equal(b, config(s, seeds)) {
		return fmt.Errorf("blob of %s is %q: %w", s, b, err)
	}
	return verifyChunks(ctx, d, x, seeds)
}

func verifyChunks(ctx context.Context, d *Datastore, x chunks.Index, seeds []uint64) error {
	if x.Len() != len(seeds) {
		return fmt.Errorf("index has %d chunks, want %d", x.Len(), len(seeds))
	}
	for i, seed := range seeds {
		c := chunk(seed)
		if x.Digest(i) != c.Digest {
			return fmt.Errorf("index has %s as chunk %d", x.Digest(i).Short(), i)
		}
		b, err := d.Chunks().Get(ctx, c.Digest, nil)
		if err != nil || !bytes.Equal(b, c.Blob) {
			return fmt.Errorf("chunk %d came back different: %w", i, err)
		}
		if !d.Chunks().Known(c.Digest) {
			return fmt.Errorf("the store denies chunk %d", i)
		}
	}
	return nil
}

// write makes a file and the directories on the way to it, and returns its name.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	name = filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, content, 0o644))
	return name
}
