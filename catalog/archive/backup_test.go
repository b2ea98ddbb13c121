package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// writeFile makes a file in a new directory and returns its path.
func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// diskImage returns chunks of text, of text and zeros, of zeros, of noise, and
// a tail that is shorter than a chunk.
func diskImage() []byte { return slices.Clone(onceDiskImage()) }

var onceDiskImage = sync.OnceValue(func() []byte {
	return slices.Concat(chunktest.Text(1, 5<<20), make([]byte, 7<<20), chunktest.Random(2, 4<<20), []byte("tail"))
})

func streamed(t testing.TB, s *Snapshot, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Stream(t.Context(), name, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestImagesAndSmallFilesComeBack(t *testing.T) {
	key := chunktest.Key(1)
	img, conf := diskImage(), []byte("key = value\n")
	sources := []Source{
		{"disk.img", Image, writeFile(t, img)},
		{"etc.conf", Conf, writeFile(t, conf)},
		{"run.log", Log, writeFile(t, nil)},
	}
	for _, test := range []struct {
		name    string
		key     *chunks.Key
		mode    manifest.CryptMode
		want    manifest.CryptMode
		encrypt bool
	}{
		{"in the open", nil, "", manifest.None, false},
		{"encrypted, which a key means by default", key, "", manifest.Encrypt, true},
		{"only signed", key, manifest.SignOnly, manifest.SignOnly, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVault()
			sum := v.backup(t, Config{Sources: sources, Key: test.key, CryptMode: test.mode, Workers: 3})
			checkManifest(t, v, sum, test.want, test.key)
			s := Open(v, Options{Key: test.key})
			if got := streamed(t, s, "disk.img.fidx"); !bytes.Equal(got, img) {
				t.Errorf("the image has changed: %d bytes", len(got))
			}
			if got := streamed(t, s, "etc.conf.blob"); !bytes.Equal(got, conf) {
				t.Errorf("the file has changed: %q", got)
			}
			if got, err := s.Blob("run.log.blob"); err != nil || len(got) != 0 {
				t.Errorf("the empty file has changed: %q, %v", got, err)
			}
			if kind, err := v.blobs["etc.conf.blob"].Kind(); err != nil || kind.IsEncrypted() != test.encrypt {
				t.Errorf("the file is kept as %v, %v", kind, err)
			}
		})
	}
}

// checkManifest compares the manifest with what was stored and with the
// summary.
func checkManifest(t *testing.T, v *vault, sum Summary, mode manifest.CryptMode, key *chunks.Key) {
	t.Helper()
	if err := v.man.Check(key); err != nil {
		t.Errorf("the manifest: %v", err)
	}
	if v.man.Signed() != (key != nil) || v.man.Snapshot() != testSnapshot {
		t.Errorf("signed: %v, snapshot %v", v.man.Signed(), v.man.Snapshot())
	}
	var names []string
	for i, f := range v.man.Files {
		names = append(names, f.Name)
		if f.CryptMode != mode || sum.Archives[i].Name != f.Name {
			t.Errorf("%s has the mode %s; the summary has %s", f.Name, f.CryptMode, sum.Archives[i].Name)
		}
	}
	slices.Sort(names) // the catalog and the first archive are opened at the same time
	if opened := slices.Sorted(slices.Values(v.opened)); !slices.Equal(names, opened) {
		t.Errorf("the manifest has %v, opened were %v", names, opened)
	}
	stats, ok := v.man.UploadStats()
	if !ok || stats.Count != uint64(sum.Total.Chunks) || stats.Size != uint64(sum.Total.Bytes) {
		t.Errorf("the manifest's statistics are %+v, the summary has %+v", stats, sum.Total)
	}
}

func TestUnchangedDataIsNotStoredAgain(t *testing.T) {
	sources := []Source{{"disk.img", Image, writeFile(t, diskImage())}}
	v := newVault()
	first := v.backup(t, Config{Sources: sources})
	if first.Total.NewChunks != 5 || first.Total.Chunks != 5 || first.Total.Bytes != int64(len(diskImage())) {
		t.Fatalf("first: %+v", first.Total)
	}
	for _, known := range []bool{true, false} {
		v.known = known
		csum := v.man.Files[0].Csum
		again := v.backup(t, Config{Sources: sources})
		if again.Total.NewChunks != 0 || again.Total.StoredBytes != 0 || again.Total.Reused() != 5 || v.man.Files[0].Csum != csum {
			t.Fatalf("again: %+v", again.Total)
		}
	}
	v.faults(1, chunktest.Fault{On: chunktest.Put})
	v.known = true
	zeros := v.backup(t, Config{Sources: []Source{{"disk.img", Image, writeFile(t, chunktest.Text(1, 4<<20))}}})
	if zeros.Total.Reused() != 1 {
		t.Fatalf("what the sink knows was put: %+v", zeros.Total)
	}
}

func TestHolesOfImagesAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	_, err = f.WriteAt([]byte("in the middle"), size/2)
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Skip("no file of 1 TiB here:", err)
	}
	img, err := openImage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.file.Close()
	var data []int64
	for off, _, hole, ok := img.take(); ok; off, _, hole, ok = img.take() {
		if !hole {
			data = append(data, off)
		}
	}
	if img.holes.unable || len(data) > 1000 {
		t.Skip("the file system has no holes")
	}
	if !slices.Equal(data, []int64{size / 2}) {
		t.Fatalf("data are at %v", data)
	}
}

func TestSourcesThatCannotBeBackedUp(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, []byte("x"))
	for _, test := range []struct {
		name   string
		source string
		want   error
		says   string
	}{
		{"an image that is not there", "disk.img:" + dir + "/none", fs.ErrNotExist, "none"},
		{"a small file that is not there", "etc.conf:" + dir + "/none", fs.ErrNotExist, "none"},
		{"a tree that is not there", "root.pxar:" + dir + "/none", fs.ErrNotExist, "none"},
		{"a tree that is a file", "root.pxar:" + file, ErrSource, "not a directory"},
		{"an image that is a directory", "disk.img:" + dir, ErrSource, "directory"},
		{"an image that is a pipe", "disk.img:" + fifo, ErrSource, "neither"},
		{"an image that is a character device", "disk.img:/dev/null", ErrSource, "neither"},
		{"an empty image", "disk.img:" + writeFile(t, nil), ErrSource, "empty"},
		{"a small file that is a directory", "etc.conf:" + dir, ErrSource, "directory"},
		{"a small file that is too large", "etc.conf:" + writeFile(t, chunktest.Random(1, 17<<20)), ErrSource, "17825792"},
		{"a name that was used", "etc.conf:" + file + " etc.conf:" + dir, ErrSource, "same name"},
		{"no source", "", ErrSource, "nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sources []Source
			for s := range strings.FieldsSeq(test.source) {
				parsed, err := ParseSource(s)
				if err != nil {
					t.Fatal(err)
				}
				sources = append(sources, parsed)
			}
			_, _, err := Backup(t.Context(), Config{Target: newVault(), Snapshot: testSnapshot, Sources: sources})
			wantError(t, err, test.want)
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v does not say %q", err, test.says)
			}
			if test.want == ErrSource && hint(err) == "" {
				t.Errorf("%v has no hint", err)
			}
		})
	}
}

func TestBackupChecksItsKeys(t *testing.T) {
	sources := []Source{{"etc.conf", Conf, writeFile(t, []byte("x"))}}
	for _, test := range []struct {
		name string
		cfg  Config
	}{
		{"encryption without a key", Config{CryptMode: manifest.Encrypt}},
		{"a signature without a key", Config{CryptMode: manifest.SignOnly}},
		{"a crypt mode that does not exist", Config{CryptMode: "both", Key: chunktest.Key(1)}},
		{"a key that is not to be used", Config{CryptMode: manifest.None, Key: chunktest.Key(1)}},
		{"a master key without a key file", Config{Key: chunktest.Key(1), MasterKey: &rsa.PublicKey{}}},
		{"a master key without a key", Config{KeyFile: &keys.File{}, MasterKey: &rsa.PublicKey{}}},
		{"a negative number of workers", Config{Workers: -1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Target, test.cfg.Snapshot, test.cfg.Sources = newVault(), testSnapshot, sources
			if _, _, err := Backup(t.Context(), test.cfg); err == nil {
				t.Fatal("it was accepted")
			}
		})
	}
}

func TestTheKeyIsKeptForTheMasterKey(t *testing.T) {
	master, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	file, err := keys.Create(nil, keys.Options{KDF: keys.None})
	if err != nil {
		t.Fatal(err)
	}
	key, err := file.Unlock(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := newVault()
	v.backup(t, Config{
		Sources: []Source{{"etc.conf", Conf, writeFile(t, []byte("secret"))}},
		Key:     key, KeyFile: file, MasterKey: &master.PublicKey,
	})
	lost := Open(v, Options{})
	wantError(t, lost.Check(), manifest.ErrMissingKey)
	_, err = lost.Blob("etc.conf.blob")
	wantError(t, err, manifest.ErrMissingKey)
	sealed, err := lost.Blob(masterKeyBlob)
	if err != nil {
		t.Fatalf("without the key its copy is not to be had: %v", err)
	}
	found, err := keys.DecryptWithMaster(sealed, master)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = found.Unlock(nil); err != nil || !found.Modified.Equal(time.Unix(testSnapshot.Time, 0)) {
		t.Fatal(found.Modified, err)
	}
	if content, err := Open(v, Options{Key: key}).Blob("etc.conf.blob"); err != nil || string(content) != "secret" {
		t.Fatalf("%q, %v", content, err)
	}
}

// meddling is a target that does something when an archive is opened.
type meddling struct {
	*vault
	onOpen func()
}

func (m meddling) Open(ctx context.Context, archive string, size int64) (Sink, error) {
	m.onOpen()
	return m.vault.Open(ctx, archive, size)
}

func TestAnImageThatChangesWhileItIsRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(path string) error
		err    error
		warns  string
	}{
		{"it is cut short", func(p string) error { return os.Truncate(p, 1<<20) }, ErrSource, ""},
		{"it grows", func(p string) error { return os.Truncate(p, 20<<20) }, nil, "size changed"},
		{"it is written to", func(p string) error {
			return os.Chtimes(p, time.Time{}, time.Unix(1, 0))
		}, nil, "written to"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, diskImage()[:5<<20])
			target := meddling{newVault(), func() {
				if err := test.change(path); err != nil {
					t.Error(err)
				}
			}}
			_, sum, err := Backup(t.Context(), Config{Target: target, Snapshot: testSnapshot, Sources: []Source{{"disk.img", Image, path}}})
			wantError(t, err, test.err)
			if warnings := strings.Join(sum.Warnings.List, "\n"); test.warns != "" && !strings.Contains(warnings, test.warns) {
				t.Fatalf("the warnings are %q", warnings)
			}
		})
	}
}

func TestATargetThatFails(t *testing.T) {
	sources := []Source{{"disk.img", Image, writeFile(t, diskImage())}}
	v := newVault()
	f := v.faults(1, chunktest.Fault{On: chunktest.Put, Nth: 3, Err: chunks.ErrNoSpace})
	_, _, err := Backup(t.Context(), Config{Target: v, Snapshot: testSnapshot, Sources: sources})
	wantError(t, err, chunks.ErrNoSpace)
	if f.Struck() != 1 || !strings.Contains(err.Error(), "disk.img") {
		t.Fatalf("struck %d times, %v", f.Struck(), err)
	}
}

func TestBackupEndsWithItsContext(t *testing.T) {
	img := writeFile(t, diskImage())
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.faults(1, chunktest.Fault{On: chunktest.Put, Delay: 24 * time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, _, err := Backup(ctx, Config{Target: v, Snapshot: testSnapshot, Sources: []Source{{"disk.img", Image, img}}})
		wantError(t, err, context.Canceled)
		if took := time.Since(start); took > 2*time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}

func TestProgressAddsUpAndIsNotTooFrequent(t *testing.T) {
	img := diskImage()
	path, conf := writeFile(t, img), writeFile(t, []byte("x"))
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.faults(1, chunktest.Fault{On: chunktest.Put, Delay: time.Second}) // as seen by the clock of the bubble
		var seen []Progress
		var at []time.Time
		sum := v.backup(t, Config{
			Sources: []Source{{"disk.img", Image, path}, {"etc.conf", Conf, conf}}, Workers: 1,
			Progress: func(p Progress) { seen, at = append(seen, p), append(at, time.Now()) },
		})
		last := seen[len(seen)-1]
		total := int64(len(img)) + 1
		if last.Bytes != total || last.Total != total || last.New != sum.Total.NewBytes || last.Stored != sum.Total.StoredBytes {
			t.Fatalf("at the end it is %+v; the summary is %+v", last, sum.Total)
		}
		if len(seen) < 4 {
			t.Fatalf("%d reports of 4 seconds", len(seen))
		}
		for i := 1; i < len(at)-1; i++ {
			if at[i].Sub(at[i-1]) < progressEvery || seen[i].Bytes < seen[i-1].Bytes {
				t.Fatalf("reports %d and %d are %v apart: %+v, %+v", i-1, i, at[i].Sub(at[i-1]), seen[i-1], seen[i])
			}
		}
	})
}
