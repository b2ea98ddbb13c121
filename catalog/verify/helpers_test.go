package verify

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A world is a datastore on the disk, and what was put into it.
type world struct {
	*catalog.Datastore
	t   testing.TB
	dir string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := identity.Init(disk.OS{}, dir, identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir}
	w.open()
	t.Cleanup(w.shut)
	return w
}

func (w *world) open() {
	w.t.Helper()
	d, err := catalog.Open(w.t.Context(), catalog.Config{Dir: w.dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Datastore = d
}

func (w *world) shut() {
	if w.Datastore == nil {
		return
	}
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
	w.Datastore = nil
}

// reopen closes the store and opens it again, so that nothing is in memory.
func (w *world) reopen() {
	w.shut()
	w.open()
}

// An arch is a file of a snapshot to be made: an index of chunks, or a blob.
type arch struct {
	name   string
	chunks []chunktest.Chunk
	sizes  []int              // of the chunks' content
	mode   manifest.CryptMode // in the manifest
}

// chunk returns a chunk of 5,000 bytes that seed makes.
func chunk(seed uint64) chunktest.Chunk {
	return chunktest.Encode(chunktest.Text(seed, 5000), chunks.EncodeOptions{Compress: true})
}

func sealed(seed uint64, key *chunks.Key) chunktest.Chunk {
	return chunktest.Encode(chunktest.Random(seed, 5000), chunks.EncodeOptions{Key: key})
}

// dynamic returns an archive of chunks of 5,000 bytes.
func dynamic(name string, list ...chunktest.Chunk) arch {
	a := arch{name: name, chunks: list, mode: manifest.None}
	for range list {
		a.sizes = append(a.sizes, 5000)
	}
	return a
}

// snap names the snapshot of the hour n.
func snap(t testing.TB, group string, n int) catalog.Snapshot {
	t.Helper()
	s, err := parseSnap(group, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parseSnap(group string, n int) (s catalog.Snapshot, err error) {
	at := time.Date(2024, 1, 1, n, 0, 0, 0, time.UTC).Format("2006-01-02T15:04:05Z")
	return s, s.UnmarshalText([]byte(group + "/" + at))
}

// backup makes a snapshot with a blob beside the archives.
func (w *world) backup(s catalog.Snapshot, key *chunks.Key, archives ...arch) {
	w.t.Helper()
	writer, err := w.Begin(w.t.Context(), "", s, "root@pam")
	if err != nil {
		w.t.Fatal(err)
	}
	m := manifest.New(s)
	for _, a := range archives {
		for _, c := range a.chunks {
			if _, err := writer.Session().Put(w.t.Context(), c.Digest, c.Blob); err != nil {
				w.t.Fatal(err)
			}
		}
		x := a.index(w.t)
		w.must(writer.PutIndex(a.name, x))
		w.must(m.Add(manifest.File{Name: a.name, Size: uint64(x.Size()), Csum: x.Csum(), CryptMode: a.mode}))
	}
	blob := chunktest.Encode([]byte("cores: 2\n"), chunks.EncodeOptions{}).Blob
	w.must(writer.PutBlob("qemu-server.conf.blob", blob))
	w.must(m.Add(manifest.File{Name: "qemu-server.conf.blob", Size: uint64(len(blob)), Csum: chunks.Sum(blob)}))
	if key != nil {
		w.must(m.Sign(key))
	}
	w.must(writer.Finish(w.t.Context(), m))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (a arch) index(t testing.TB) chunks.Index {
	t.Helper()
	if strings.HasSuffix(a.name, ".didx") {
		var b chunks.DynamicBuilder
		for i, c := range a.chunks {
			if err := b.Append(b.End()+int64(a.sizes[i]), c.Digest); err != nil {
				t.Fatal(err)
			}
		}
		x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	b, err := chunks.NewFixedBuilder(int64(len(a.chunks)-1)*chunks.SlotSize+int64(a.sizes[len(a.sizes)-1]), chunks.SlotSize)
	for i, c := range a.chunks {
		if err == nil {
			err = b.Put(int64(i)*chunks.SlotSize, int64(a.sizes[i]), c.Digest)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// file returns the path of a file of a snapshot.
func (w *world) file(s catalog.Snapshot, name string) string {
	return filepath.Join(w.dir, s.Path(), name)
}

// damage turns one bit of a chunk on the disk; the store is reopened for that.
func (w *world) damage(c chunktest.Chunk) {
	w.t.Helper()
	w.shut()
	w.edit(c, func(b []byte, at int) { b[at+len(c.Blob)/2] ^= 1 })
	w.open()
}

// edit changes the pack that holds c.
func (w *world) edit(c chunktest.Chunk, change func(b []byte, at int)) {
	w.t.Helper()
	for _, name := range w.packs() {
		b, err := os.ReadFile(name)
		w.must(err)
		if at := bytes.Index(b, c.Blob); at >= 0 {
			change(b, at)
			w.must(os.WriteFile(name, b, 0o600))
			return
		}
	}
	w.t.Fatalf("no pack has chunk %s", c.Digest.Short())
}

// packs lists the files of packs.
func (w *world) packs() (names []string) {
	w.t.Helper()
	w.must(filepath.WalkDir(filepath.Join(w.dir, identity.PacksDir), func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	}))
	return names
}

// state returns what the manifest of s says of its verification.
func (w *world) state(s catalog.Snapshot) string {
	w.t.Helper()
	m, err := w.Manifest("", s)
	w.must(err)
	v, ok := m.VerifyState()
	if !ok {
		return "none"
	}
	return v.State
}

func (w *world) verify(opt Options) Report {
	w.t.Helper()
	r, err := Run(w.t.Context(), w.Datastore, opt)
	w.must(err)
	return r
}
