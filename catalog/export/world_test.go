package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A site is a PBS datastore and one of ours, each in a file system of its own.
type site struct {
	t        *testing.T
	pbs, own *disktest.Mem
}

const (
	pbsDir = "/pbs"
	ownDir = "/own"
)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t, disktest.NewMem(), disktest.NewMem()}
	s.must(s.pbs.Mkdir(pbsDir, 0o755))
	s.must(s.pbs.Mkdir(pbsDir+"/.chunks", 0o750))
	_, err := identity.Init(s.own, ownDir, 16<<20)
	s.must(err)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// put writes a file of the PBS datastore, with the directories above it.
func (s *site) put(name string, data []byte) {
	s.t.Helper()
	putFile(s.t, s.pbs, path.Join(pbsDir, name), data)
}

func putFile(t testing.TB, fsys disk.FS, name string, data []byte) {
	t.Helper()
	if err := disk.MkdirAll(fsys, path.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// goldens are snapshots that the official clients made.
var goldens = map[string]string{
	"g1-first":        "host/g1/2023-11-14T22:13:20Z",
	"g1-incremental":  "host/g1/2023-11-14T23:13:20Z",
	"g3-sign-only":    "host/g3/2023-11-14T22:13:20Z",
	"vm901-encrypted": "vm/901/2023-11-14T22:13:20Z",
}

const goldenDir = "testdata/golden"

// golden puts all of them, and their chunks.
func (s *site) golden() {
	s.t.Helper()
	for name, snap := range goldens {
		for file, data := range readDir(s.t, filepath.Join(goldenDir, name)) {
			s.put(path.Join(snap, file), data)
		}
	}
	for d, data := range readDir(s.t, filepath.Join(goldenDir, "chunks")) {
		s.put(path.Join(".chunks", d[:4], d), data)
	}
	for _, group := range []string{"host/g1", "host/g3", "vm/901"} {
		s.put(path.Join(group, "owner"), []byte("root@pam\n"))
	}
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func goldenKey(t *testing.T) *chunks.Key {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenDir, "key.json"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := keys.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.Unlock(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// slot is the size of the chunks of small images.
const slot = 4096

// made returns the files of a small snapshot: an image with the chunks
// numbered, and a configuration.
func made(t testing.TB, snap string, numbers ...int) (files map[string][]byte, blobs []chunktest.Chunk) {
	t.Helper()
	s, err := naming.ParseSnapshot(snap)
	if err != nil {
		t.Fatal(err)
	}
	b, err := chunks.NewFixedBuilder(int64(len(numbers))*slot, slot)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range numbers {
		c := chunktest.Blob(uint64(n), slot)
		blobs = append(blobs, c)
		if err := b.Put(int64(i)*slot, slot, c.Digest); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.UUID{1, 2, 3}, time.Unix(s.Time, 0))
	if err != nil {
		t.Fatal(err)
	}
	conf := chunktest.Encode([]byte("conf of "+snap), chunks.EncodeOptions{}).Blob
	m := manifest.New(s)
	err = errors.Join(
		m.Add(manifest.File{Name: "disk.img.fidx", Size: uint64(x.Size()), Csum: x.Csum()}),
		m.Add(manifest.File{Name: "vm.conf.blob", Size: uint64(len(conf)), Csum: chunks.Sum(conf)}))
	if err != nil {
		t.Fatal(err)
	}
	index, err := m.Blob()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"disk.img.fidx": x.Bytes(), "vm.conf.blob": conf, manifestName: index}, blobs
}

// backup puts a small snapshot, with its group's owner.
func (s *site) backup(ns, snap string, numbers ...int) {
	s.t.Helper()
	files, blobs := made(s.t, snap, numbers...)
	dir := path.Join(catalog.Namespace(ns).Path(), snap)
	for name, data := range files {
		s.put(path.Join(dir, name), data)
	}
	s.put(path.Join(path.Dir(dir), "owner"), []byte("backup@pbs!pve\n"))
	for _, c := range blobs {
		s.put(path.Join(".chunks", chunkPath(c.Digest)), c.Blob)
	}
}

func (s *site) open() *catalog.Datastore {
	s.t.Helper()
	d, err := catalog.Open(context.Background(), catalog.Config{Dir: ownDir, FS: s.own})
	s.must(err)
	return d
}

// imports runs an import and closes the store.
func (s *site) imports(opt ImportOptions) Report {
	s.t.Helper()
	d := s.open()
	if opt.FS == nil {
		opt.FS = s.pbs
	}
	r, err := ImportPBS(context.Background(), d, pbsDir, opt)
	s.must(errors.Join(err, d.Close()))
	return r
}

// damage flips a bit of a blob in the packs.
func (s *site) damage(b chunks.Blob) {
	s.t.Helper()
	for _, name := range s.own.Names() {
		if at := bytes.Index(s.own.Bytes(name), b); at >= 0 {
			s.own.FlipBit(name, int64(at)+20)
			return
		}
	}
	s.t.Fatal("the chunk is in no pack")
}

func figures(r Report) string {
	return fmt.Sprintf("groups %d copied %d present %d unfinished %d vanished %d refused %d; chunks %d known %d bad %d",
		r.Groups, r.Snapshots, r.Present, r.Unfinished, r.Vanished, r.Refused, r.Chunks, r.Known, r.BadChunks)
}

func (s *site) want(r Report, want string) {
	s.t.Helper()
	if got := figures(r); got != want {
		s.t.Errorf("report is\n %s, want\n %s; refusals %v", got, want, r.Refusals)
	}
}

// stock is a datastore, ours or a PBS's, that can be compared.
type stock struct {
	catalog.Tree
	chunks chunks.Source
}

func (s *site) pbsStock() stock {
	s.t.Helper()
	p, err := OpenPBS(s.pbs, pbsDir)
	s.must(err)
	return stock{p.Tree, p.Chunks()}
}

// dump describes everything in a datastore that a copy must have: each line is
// a name and a content. Manifests are described by their JSON's meaning.
func dump(t *testing.T, d stock) map[string]string {
	t.Helper()
	ctx, all := context.Background(), map[string]string{}
	spaces, err := d.Namespaces(ctx, "", -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range spaces {
		all["namespace "+string(ns)] = ""
		groups, err := d.Groups(ctx, ns)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			owner, err := d.Owner(ns, g)
			notes, err2 := d.GroupNotes(ns, g)
			snaps, err3 := d.Snapshots(ctx, ns, g)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatal(err)
			}
			all[label(ns, g)] = owner + " " + notes
			for _, s := range snaps {
				dumpSnapshot(t, d, ns, s, all)
			}
		}
	}
	return all
}

func dumpSnapshot(t *testing.T, d stock, ns catalog.Namespace, s catalog.Snapshot, all map[string]string) {
	t.Helper()
	files, err := d.Files(ns, s)
	if err != nil {
		t.Fatal(err)
	}
	marked, err := d.Protected(ns, s)
	if err != nil {
		t.Fatal(err)
	}
	all[label(ns, s)] = fmt.Sprintf("protected %v", marked)
	for _, f := range files {
		what := label(ns, s) + "/" + f
		data, err := disk.ReadFile(d.FS, path.Join(d.Dir, ns.Path(), s.Path(), f), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if all[what] = string(data); f == manifestName {
			text, err := chunks.Blob(data).Decode(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			all[what] = meaning(t, text)
		}
		if strings.HasSuffix(f, ".blob") {
			continue
		}
		x, err := chunks.ParseIndex(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, digest := range x.All() {
			b, err := d.chunks.Get(context.Background(), digest, nil)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			all["chunk "+digest.String()] = string(b)
		}
	}
}

// meaning returns JSON with its members in order.
func meaning(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if m, ok := v.(map[string]any); ok && m["signature"] == nil {
		delete(m, "signature") // null and absent mean the same
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// equal fails the test unless two datastores hold the same.
func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	for what, content := range want {
		if have, ok := got[what]; !ok {
			t.Errorf("%s is missing", what)
		} else if have != content {
			t.Errorf("%s is %.300q, want %.300q", what, have, content)
		}
	}
	for what := range got {
		if _, ok := want[what]; !ok {
			t.Errorf("%s is there, and should not be", what)
		}
	}
}

// reasons returns what was refused, and why.
func reasons(r Report) []string {
	var all []string
	for _, x := range r.Refusals {
		all = append(all, x.What+": "+x.Reason)
	}
	slices.Sort(all)
	return all
}
