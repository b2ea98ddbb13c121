package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// imageVault returns a vault with a backup of diskImage and a small file.
func imageVault(t testing.TB, key *chunks.Key) *vault {
	t.Helper()
	v := newVault()
	v.backup(t, Config{Key: key, Sources: []Source{
		{"disk.img", Image, writeFile(t, diskImage())},
		{"etc.conf", Conf, writeFile(t, []byte("secret"))},
	}})
	return v
}

// wantFile fails unless path holds content, and nothing else is in its folder.
func wantFile(t testing.TB, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%s has %d bytes that are not right, %v", path, len(got), err)
	}
	wantFolder(t, filepath.Dir(path), filepath.Base(path))
}

func wantFolder(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Fatalf("the folder has %v, want %v", got, names)
	}
}

func TestSaveRestoresFiles(t *testing.T) {
	for name, key := range map[string]*chunks.Key{"plain": nil, "encrypted": chunktest.Key(1)} {
		t.Run(name, func(t *testing.T) {
			v := imageVault(t, key)
			for file, content := range map[string][]byte{"disk.img.fidx": diskImage(), "etc.conf.blob": []byte("secret")} {
				var last Progress
				s := Open(v, Options{Key: key, Progress: func(p Progress) { last = p }})
				path := filepath.Join(t.TempDir(), "file")
				if err := s.Save(t.Context(), file, path); err != nil {
					t.Fatal(err)
				}
				wantFile(t, path, content)
				if n := int64(len(content)); last.Bytes != n || last.Total != n {
					t.Errorf("the progress of %s ends at %+v", file, last)
				}
				err := s.Save(t.Context(), file, path)
				wantError(t, err, ErrExists)
				if hint(err) == "" {
					t.Errorf("%v has no hint", err)
				}
			}
		})
	}
}

func TestSaveLeavesHolesForZeros(t *testing.T) {
	v := imageVault(t, nil)
	path := filepath.Join(t.TempDir(), "disk")
	if err := Open(v, Options{}).Save(t.Context(), "disk.img.fidx", path); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 13<<20 {
		t.Skipf("%d bytes are used of a file of %d: the file system has no holes", used, st.Size)
	}
}

func TestSaveOverwrites(t *testing.T) {
	v := imageVault(t, nil)
	dir := t.TempDir()
	path, link := filepath.Join(dir, "disk"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o640), os.Symlink("disk", link)); err != nil {
		t.Fatal(err)
	}
	s := Open(v, Options{Overwrite: true})
	if err := s.Save(t.Context(), "disk.img.fidx", link); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Size() != int64(len(diskImage())) || info.Mode() != 0o640 {
		t.Fatalf("%v, %v", info, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "disk" {
		t.Fatalf("the link points to %q, %v", to, err)
	}
	wantFolder(t, dir, "disk", "link")
	wantError(t, s.Save(t.Context(), "disk.img.fidx", dir), ErrExists)
	wantError(t, s.Save(t.Context(), "disk.img.fidx", "/dev/null"), ErrExists)
}

func TestSaveOverADeviceWritesTheZerosToo(t *testing.T) {
	v := imageVault(t, nil)
	content := diskImage()
	path := writeFile(t, bytes.Repeat([]byte{0xff}, len(content)+100))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := Open(v, Options{})
	to := &target{file: f, path: path, device: true}
	if err := to.close(s.fill(t.Context(), "disk.img.fidx", to)); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, append(content, bytes.Repeat([]byte{0xff}, 100)...))
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	to = &target{file: f, path: path, device: true}
	if err := to.close(s.fill(t.Context(), "disk.img.fidx", to)); err == nil || !strings.Contains(err.Error(), "100 bytes") {
		t.Fatalf("a device that is too small: %v", err)
	}
}

func TestARestoreThatFailsLeavesNothing(t *testing.T) {
	key := chunktest.Key(1)
	v := imageVault(t, key)
	for _, test := range []struct {
		name  string
		file  string
		fault []chunktest.Fault
		key   *chunks.Key
		want  error
	}{
		{"a chunk is missing", "disk.img.fidx", []chunktest.Fault{{On: chunktest.Get, Nth: 2, Drop: true}}, key, chunks.ErrMissing},
		{"a chunk is damaged", "disk.img.fidx", []chunktest.Fault{{On: chunktest.Get, Nth: 1, Flip: true}}, key, chunks.ErrCorrupt},
		{"the store fails", "disk.img.fidx", []chunktest.Fault{{On: chunktest.Get, Nth: 3}}, key, chunktest.ErrInjected},
		{"another key", "disk.img.fidx", nil, chunktest.Key(2), manifest.ErrWrongKey},
		{"no key", "disk.img.fidx", nil, nil, manifest.ErrMissingKey},
		{"no key for a small file", "etc.conf.blob", nil, nil, manifest.ErrMissingKey},
		{"another name", "disk2.img.fidx", nil, key, ErrNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			v.faults(1, test.fault...)
			s := Open(v, Options{Key: test.key})
			dir := t.TempDir()
			err := s.Save(t.Context(), test.file, filepath.Join(dir, "disk"))
			wantError(t, err, test.want)
			wantFolder(t, dir)
			v.faults(1, test.fault...)
			wantError(t, s.Stream(t.Context(), test.file, io.Discard), test.want)
			if hint(err) == "" && test.want != chunktest.ErrInjected {
				t.Errorf("%v has no hint", err)
			}
		})
	}
}

func TestKeepGoingSaysWhatIsDamaged(t *testing.T) {
	v := imageVault(t, nil)
	x, err := v.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	v.mem.Forget(x.Digest(0))
	v.mem.Forget(x.Digest(1))
	v.mem.Forget(x.Digest(4))
	want := diskImage()
	clear(want[:8<<20])
	clear(want[16<<20:])
	path := filepath.Join(t.TempDir(), "disk")
	var streamed bytes.Buffer
	s := Open(v, Options{KeepGoing: true})
	for how, err := range map[string]error{
		"saved":    s.Save(t.Context(), "disk.img.fidx", path),
		"streamed": s.Stream(t.Context(), "disk.img.fidx", &streamed),
	} {
		wantError(t, err, ErrDamaged)
		wantError(t, err, chunks.ErrMissing)
		var d *DamagedError
		if !errors.As(err, &d) || d.Bytes != 8<<20+4 || len(d.Ranges) != 2 ||
			d.Ranges[0] != (Range{0, 8 << 20}) || d.Ranges[1] != (Range{16 << 20, 16<<20 + 4}) {
			t.Fatalf("%s: %v", how, err)
		}
	}
	wantFile(t, path, want)
	if !bytes.Equal(streamed.Bytes(), want) {
		t.Fatal("what was streamed is wrong")
	}
	v.faults(1, chunktest.Fault{On: chunktest.Get}) // not damage: nothing is known of the content
	dir := t.TempDir()
	wantError(t, s.Save(t.Context(), "disk.img.fidx", filepath.Join(dir, "disk")), chunktest.ErrInjected)
	wantFolder(t, dir)
}

func TestADamagedTagIsDamageWhenTheKeyIsRight(t *testing.T) {
	key := chunktest.Key(1)
	v := imageVault(t, key)
	x, err := v.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	blob, err := v.mem.Get(t.Context(), x.Digest(0), nil)
	if err != nil {
		t.Fatal(err)
	}
	blob[chunks.EncryptedHeaderSize-1] ^= 1 // no CRC covers it
	v.mem.Forget(x.Digest(0))
	if _, err := v.mem.Put(t.Context(), x.Digest(0), blob); err != nil {
		t.Fatal(err)
	}
	err = Open(v, Options{Key: key, KeepGoing: true}).Stream(t.Context(), "disk.img.fidx", io.Discard)
	wantError(t, err, ErrDamaged)
	wantError(t, err, chunks.ErrCorrupt)
}

func TestFilesMustMatchTheManifest(t *testing.T) {
	v, other := imageVault(t, nil), newVault()
	other.chunks, other.mem = v.chunks, v.mem
	other.backup(t, Config{Sources: []Source{
		{"disk.img", Image, writeFile(t, diskImage()[:8<<20])},
		{"etc.conf", Conf, writeFile(t, []byte("public"))},
	}})
	v.indexes, v.blobs = other.indexes, other.blobs
	s := Open(v, Options{})
	for _, name := range []string{"disk.img.fidx", "etc.conf.blob"} {
		err := s.Stream(t.Context(), name, io.Discard)
		wantError(t, err, ErrMismatch)
		if hint(err) == "" {
			t.Errorf("%v has no hint", err)
		}
	}
	if _, err := s.Reader(t.Context(), "disk.img.fidx", ReaderOptions{}); !errors.Is(err, ErrMismatch) {
		t.Errorf("a reader: %v", err)
	}
}

func TestTheManifestAndTheLogAreReadToo(t *testing.T) {
	key := chunktest.Key(1)
	v := imageVault(t, key)
	v.blobs[manifest.LogName] = chunktest.Encode([]byte("log"), chunks.EncodeOptions{Key: key}).Blob
	s := Open(v, Options{Key: key})
	if got := streamed(t, s, manifest.LogName); string(got) != "log" {
		t.Fatalf("the log is %q", got)
	}
	if got, err := manifest.Parse(streamed(t, s, manifest.Name)); err != nil || got.Snapshot() != testSnapshot {
		t.Fatal(got, err)
	}
	_, err := Open(v, Options{}).Blob(manifest.LogName)
	wantError(t, err, manifest.ErrMissingKey)
}

// fullDisk takes n bytes.
type fullDisk struct{ n int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

func TestStreamEndsWhenTheDiskIsFull(t *testing.T) {
	s := Open(imageVault(t, nil), Options{})
	for _, name := range []string{"disk.img.fidx", "etc.conf.blob"} {
		err := s.Stream(t.Context(), name, &fullDisk{5})
		wantError(t, err, unix.ENOSPC)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

func TestRestoresEndWithTheirContext(t *testing.T) {
	v := imageVault(t, nil)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v.faults(1, chunktest.Fault{On: chunktest.Get, Delay: 24 * time.Hour})
		s := Open(v, Options{KeepGoing: true})
		for how, restore := range map[string]func(context.Context) error{
			"save":   func(ctx context.Context) error { return s.Save(ctx, "disk.img.fidx", filepath.Join(dir, "disk")) },
			"stream": func(ctx context.Context) error { return s.Stream(ctx, "disk.img.fidx", io.Discard) },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			wantError(t, restore(ctx), context.Canceled)
			if took := time.Since(start); took > 2*time.Second {
				t.Fatalf("%s took %v", how, took)
			}
		}
	})
	wantFolder(t, dir)
}

// short hands out fewer chunks than are wanted.
type short struct{ chunks.BatchSource }

func (s short) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return s.BatchSource.GetMany(ctx, want[1:], fn)
}

type shortOrigin struct{ *vault }

func (o shortOrigin) Chunks() chunks.BatchSource { return short{o.mem} }

func TestSaveNoticesASourceThatForgets(t *testing.T) {
	err := Open(shortOrigin{imageVault(t, nil)}, Options{}).Save(t.Context(), "disk.img.fidx", filepath.Join(t.TempDir(), "disk"))
	if err == nil || !strings.Contains(err.Error(), "handed out 3 chunks, 4 were wanted") {
		t.Fatal(err)
	}
}
