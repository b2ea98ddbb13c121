package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// Snapshots that proxmox-backup-client 3.2.4 made, with all of their chunks.
// The sums are those of the decoded streams, found by an independent program.
var goldenStreams = map[string]map[string]string{
	"g1-first": {
		"catalog.pcat1.didx": "cd5fdb5476ec688aa6c2d9826cc411684819480905aea73a84b59c8494898ac8",
		"disk.img.fidx":      "80cff979d249db155141bf3e1b84fb9d9549a8da567c6b43a27708195c7f2dd0",
		"root.pxar.didx":     "b54a41eb0ed80df4d6d7febadb63a3b6550a45c1cdc7a6be80f2edbf1bc53aee",
	},
	"g2-encrypted": {
		"catalog.pcat1.didx": "cd5fdb5476ec688aa6c2d9826cc411684819480905aea73a84b59c8494898ac8",
		"disk.img.fidx":      "80cff979d249db155141bf3e1b84fb9d9549a8da567c6b43a27708195c7f2dd0",
		"root.pxar.didx":     "b54a41eb0ed80df4d6d7febadb63a3b6550a45c1cdc7a6be80f2edbf1bc53aee",
	},
	"g5-small-chunks": {
		"catalog.pcat1.didx": "a486d2541b34eb569fac82434c01a07df61d87dd09190774f857c7a8ab069a31",
		"root.pxar.didx":     "f83159343cdf33a91286178945ad747179e575ae7d64a0d342c1749dc9405678",
	},
}

// goldenConf is what the golden snapshots have as etc.conf.
var goldenConf = bytes.Repeat([]byte("# golden configuration\nkey = value\n"), 4)

// goldenKey returns the key of a golden snapshot, nil if it has none.
func goldenKey(t testing.TB, name string) (*keys.File, *chunks.Key) {
	t.Helper()
	if name != "g2-encrypted" {
		return nil, nil
	}
	file, err := keys.Load("testdata/golden/key.json")
	if err != nil {
		t.Fatal(err)
	}
	key, err := file.Unlock(nil)
	if err != nil {
		t.Fatal(err)
	}
	return file, key
}

// golden returns a golden snapshot.
func golden(t testing.TB, name string) *vault {
	t.Helper()
	v := newVault()
	for path, content := range files(t, "testdata/golden/chunks") {
		d, err := chunks.ParseDigest(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.mem.Put(t.Context(), d, content); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range files(t, filepath.Join("testdata/golden", name)) {
		if strings.HasSuffix(path, ".blob") {
			v.blobs[path] = content
			continue
		}
		x, err := chunks.ParseIndex(content)
		if err != nil {
			t.Fatal(err)
		}
		v.indexes[path] = x
	}
	var err error
	if v.man, err = manifest.ParseBlob(v.blobs[manifest.Name]); err != nil {
		t.Fatal(err)
	}
	return v
}

// files returns the files of a folder by name.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestGoldenSnapshotsAreRestoredByteForByte(t *testing.T) {
	for name, sums := range goldenStreams {
		t.Run(name, func(t *testing.T) {
			_, key := goldenKey(t, name)
			s := Open(golden(t, name), Options{Key: key})
			for file, want := range sums {
				if got := sha256.Sum256(streamed(t, s, file)); hex.EncodeToString(got[:]) != want {
					t.Errorf("%s has the sum %x, want %s", file, got, want)
				}
				path := filepath.Join(t.TempDir(), "file")
				if err := s.Save(t.Context(), file, path); err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(path)
				if got := sha256.Sum256(content); err != nil || hex.EncodeToString(got[:]) != want {
					t.Errorf("%s, saved, has the sum %x, want %s, %v", file, got, want, err)
				}
			}
			if name == "g5-small-chunks" {
				return
			}
			if got := streamed(t, s, "etc.conf.blob"); !bytes.Equal(got, goldenConf) {
				t.Errorf("etc.conf is %q", got)
			}
			if got := streamed(t, s, manifest.LogName); string(got) != "starting\ndone\n" {
				t.Errorf("the log is %q", got)
			}
		})
	}
}

// goldenImage is the disk image of the golden snapshots: zeros, text, and a
// tail of SHA-256 sums.
func goldenImage() []byte {
	img := make([]byte, 4<<20, 9<<20)
	for i := range 4 << 20 / 16 {
		img = fmt.Appendf(img, "%015d\n", i)
	}
	for n := uint64(0); len(img) < 8<<20+100000; n++ {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("tail"), n))
		img = append(img, sum[:]...)
	}
	return img[:8<<20+100000]
}

func TestTheSameInputGivesTheChunksOfTheOfficialClient(t *testing.T) {
	for _, name := range []string{"g1-first", "g2-encrypted"} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := golden(t, name), newVault()
			_, key := goldenKey(t, name)
			ours.backup(t, Config{Key: key, Sources: []Source{
				{"disk.img", Image, writeFile(t, goldenImage())},
				{"etc.conf", Conf, writeFile(t, goldenConf)},
			}})
			wantSameIndex(t, ours.indexes["disk.img.fidx"], theirs.indexes["disk.img.fidx"])
			b := &backup{cfg: Config{Target: ours, Key: key, Workers: 2}, fail: func(error) {}}
			if key != nil {
				b.cfg.CryptMode = manifest.Encrypt
			}
			s := Open(theirs, Options{Key: key})
			for file, average := range map[string]int{"root.pxar.didx": chunks.ArchiveAverage, "catalog.pcat1.didx": chunks.CatalogAverage} {
				x, _, err := b.stream(t.Context(), file, bytes.NewReader(streamed(t, s, file)), average)
				if err != nil {
					t.Fatal(err)
				}
				wantSameIndex(t, x, theirs.indexes[file])
			}
		})
	}
}

func wantSameIndex(t *testing.T, ours, theirs chunks.Index) {
	t.Helper()
	if ours.Csum() != theirs.Csum() || ours.Size() != theirs.Size() || ours.Len() != theirs.Len() {
		t.Errorf("our index has %d bytes and the sum %s, theirs %d and %s", ours.Size(), ours.Csum(), theirs.Size(), theirs.Csum())
	}
}

func TestAGoldenTreeSurvivesRestoreAndBackup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the tree has files of several users: run as root")
	}
	for _, name := range []string{"g1-first", "g2-encrypted", "g5-small-chunks"} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := golden(t, name), newVault()
			_, key := goldenKey(t, name)
			dir := filepath.Join(t.TempDir(), "root")
			if _, err := Open(theirs, Options{Key: key}).RestoreTree(t.Context(), "root.pxar.didx", dir, tree.ExtractOptions{}); err != nil {
				t.Fatal(err)
			}
			ours.backup(t, Config{Key: key, Sources: []Source{{"root.pxar", Tree, dir}}})
			for file := range goldenStreams[name] {
				if strings.HasSuffix(file, ".didx") {
					got, want := streamed(t, Open(ours, Options{Key: key}), file), streamed(t, Open(theirs, Options{Key: key}), file)
					if !bytes.Equal(got, want) {
						t.Errorf("%s differs: %d bytes, %d at theirs", file, len(got), len(want))
					}
				}
			}
		})
	}
}

func TestReadersOfAGoldenTree(t *testing.T) {
	s := Open(golden(t, "g5-small-chunks"), Options{})
	c, err := s.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dir, err := c.Find("root.pxar.didx/c")
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Children(dir)
	if err != nil || len(list) != 20 || list[19].Name != "f19" || list[19].Size != 1900 {
		t.Fatalf("the catalog lists %v, %v", list, err)
	}
	var lines bytes.Buffer
	if err := s.WriteFile(t.Context(), "root.pxar.didx", "b-lines", &lines); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(lines.Bytes(), []byte("\n")); n != 15625 || !bytes.HasPrefix(lines.Bytes(), []byte("000000000000000\n000000000007919\n")) {
		t.Fatalf("%d lines", n)
	}
	err = s.WriteFile(t.Context(), "root.pxar.didx", "c/none", &lines)
	wantError(t, err, ErrNotFound)
	if hint(err) == "" {
		t.Fatalf("%v has no hint", err)
	}
	if err := s.WriteFile(t.Context(), "root.pxar.didx", "c", &lines); err == nil {
		t.Fatal("a directory was written as a file")
	}
}

func TestASmallFileNeedsFewChunks(t *testing.T) {
	v := golden(t, "g5-small-chunks")
	src := &counting{BatchSource: v.mem}
	s := Open(countingOrigin{v, src}, Options{})
	var out bytes.Buffer
	if err := s.WriteFile(t.Context(), "root.pxar.didx", "c/f19", &out); err != nil || out.Len() != 1900 {
		t.Fatal(out.Len(), err)
	}
	if n := src.gets.Load(); n > 3 {
		t.Fatalf("it needed %d chunks of %d", n, v.indexes["root.pxar.didx"].Len())
	}
}

// counting counts the chunks that are read.
type counting struct {
	chunks.BatchSource
	gets atomic.Int64
}

func (c *counting) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	c.gets.Add(1)
	return c.BatchSource.Get(ctx, d, buf)
}

type countingOrigin struct {
	*vault
	src chunks.BatchSource
}

func (o countingOrigin) Chunks() chunks.BatchSource { return o.src }
