package plain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestExportedSnapshotNeedsNoHoldfast(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %v", encrypted), func(t *testing.T) {
			var key *chunks.Key
			if encrypted {
				key = goldenKey(t)
			}
			data, image := packed(t, someTree(t)), someImage()
			o := newOrigin(t, key)
			o.dynamic("root.pxar.didx", data)
			o.image("disk.img.fidx", image)
			o.blob("etc.conf.blob", "one line\n")
			o.dynamic("catalog.pcat1.didx", []byte("not exported"))
			o.blob("client.log.blob", "what happened\n")
			o.sign()
			dir := filepath.Join(t.TempDir(), "out")
			report, err := Export(t.Context(), o.open(archive.Options{}), dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			run(t, dir, "sha256sum", "--check", "--strict", "SHA256SUMS")
			restored := untar(t, dir, "root.tar")
			t.Cleanup(func() { _ = os.Chmod(filepath.Join(restored, "sub"), 0o755) })
			equal(t, described(t, packed(t, restored)), described(t, data))
			json, err := o.manifest.JSON()
			if err != nil {
				t.Fatal(err)
			}
			run(t, dir, "dd", "if=disk.img", "of=copy.img", "bs=64K", "status=none")
			for name, want := range map[string][]byte{
				"copy.img": image, "etc.conf": []byte("one line\n"), "client.log": []byte("what happened\n"), "index.json": json,
			} {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s has %d bytes, %v, want %d", name, len(got), err, len(want))
				}
			}
			files := readDir(t, dir)
			if names := slices.Sorted(maps.Keys(files)); !slices.Equal(names, []string{
				"RESTORE.txt", "SHA256SUMS", "client.log", "copy.img", "disk.img", "etc.conf", "index.json", "root.tar",
			}) {
				t.Errorf("the directory has %q", names)
			}
			for _, want := range []string{"sha256sum --check SHA256SUMS", "tar --extract --file=root.tar", "dd if=disk.img"} {
				if !strings.Contains(string(files["RESTORE.txt"]), want) {
					t.Errorf("RESTORE.txt does not say %q", want)
				}
			}
			if len(report.Files) != 7 || report.Trees["root.tar"].Entries != int64(len(described(t, data))) {
				t.Errorf("report is %+v", report)
			}
		})
	}
}

func TestExportedImageHasHoles(t *testing.T) {
	o := newOrigin(t, nil)
	image := make([]byte, 8<<20)
	copy(image[5<<20:], "something")
	o.image("disk.img.fidx", image)
	dir := t.TempDir()
	if _, err := Export(t.Context(), o.open(archive.Options{}), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "disk.img"))
	if err != nil || !bytes.Equal(got, image) {
		t.Fatalf("the image has %d bytes, %v", len(got), err)
	}
	if n := disk.Allocated(disk.OS{}, filepath.Join(dir, "disk.img")); n > 1<<20 {
		t.Errorf("the image takes %d bytes of disk", n)
	}
}

func TestExportSnapshotWithLostContent(t *testing.T) {
	data, image := packed(t, someTree(t)), someImage()
	o := newOrigin(t, nil)
	o.dynamic("root.pxar.didx", data)
	o.image("disk.img.fidx", image)
	large := openNode(t, data, "sub/large")
	content, err := large.Content()
	if err != nil {
		t.Fatal(err)
	}
	_, begin, size := content.Outer()
	o.forget("root.pxar.didx", begin+size/2)
	o.forget("disk.img.fidx", 800_000)

	dir := t.TempDir()
	_, err = Export(t.Context(), o.open(archive.Options{}), dir, Options{})
	if !errors.Is(err, chunks.ErrMissing) || len(readDir(t, dir)) != 0 {
		t.Errorf("export fails with %v and leaves %d files", err, len(readDir(t, dir)))
	}
	report, err := Export(t.Context(), o.open(archive.Options{KeepGoing: true}), dir, Options{KeepGoing: true})
	if !errors.Is(err, archive.ErrDamaged) || len(report.Damaged) != 2 || report.Trees["root.tar"].Lost != 1 {
		t.Fatalf("export fails with %v, %+v", err, report)
	}
	if !strings.Contains(report.Damaged[0], "sub/large") || !strings.Contains(string(readDir(t, dir)["RESTORE.txt"]), "sub/large") {
		t.Errorf("damaged are %q", report.Damaged)
	}
	run(t, dir, "sha256sum", "--check", "--strict", "SHA256SUMS")
	restored := untar(t, dir, "root.tar")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(restored, "sub"), 0o755) })
	got, want := described(t, packed(t, restored)), described(t, data)
	for name := range want {
		if (got[name] != want[name]) != (name == "sub/large") {
			t.Errorf("%s is %s, was %s", name, got[name], want[name])
		}
	}
	b, err := os.ReadFile(filepath.Join(restored, "sub/large"))
	if err != nil || len(b) != int(size) {
		t.Fatalf("the damaged file has %d bytes, %v, want %d", len(b), err, size)
	}
	lost := 0
	for i := range b {
		if was := data[begin+int64(i)]; b[i] != was {
			if lost++; b[i] != 0 {
				t.Fatalf("byte %d of the damaged file is %d, want %d or 0", i, b[i], was)
			}
		}
	}
	if lost == 0 || lost > 64<<10 {
		t.Errorf("%d bytes are zero, want those of one chunk", lost)
	}
}

func TestExportSnapshotRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.doc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	key := goldenKey(t)
	for _, c := range []struct {
		name, dir string
		key       *chunks.Key
		want      error
	}{
		{"a directory with something in it", full, key, fs.ErrExist},
		{"a directory below none", filepath.Join(full, "a/b"), key, fs.ErrNotExist},
		{"an encrypted snapshot without its key", t.TempDir(), nil, chunks.ErrNoKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin(t, key)
			o.blob("etc.conf.blob", "one line\n")
			o.sign()
			_, err := Export(t.Context(), archive.Open(o, archive.Options{Key: c.key}), c.dir, Options{})
			if !errors.Is(err, c.want) {
				t.Errorf("export fails with %v, want %v", err, c.want)
			}
		})
	}
}

func TestExportSnapshotStopsAtOnce(t *testing.T) {
	o := newOrigin(t, nil)
	o.dynamic("root.pxar.didx", packed(t, someTree(t)))
	o.image("disk.img.fidx", someImage())
	for _, stopAt := range []string{"root.tar", "disk.img"} {
		dir := filepath.Join(t.TempDir(), "new")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Export(ctx, o.open(archive.Options{}), dir, Options{Progress: func(file string, _ int64) {
			if file == stopAt {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("export fails with %v", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory is left: %v", err)
		}
	}
}

func TestNamesOutsideASnapshot(t *testing.T) {
	o := newOrigin(t, nil)
	o.blob("root.tar.blob", "a blob")
	o.dynamic("root.pxar.didx", packed(t, someTree(t)))
	o.image("index.json.fidx", []byte("not the manifest"))
	o.blob("SHA256SUMS.blob", "not the sums")
	dir := t.TempDir()
	if _, err := Export(t.Context(), o.open(archive.Options{}), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "sha256sum", "--check", "--strict", "SHA256SUMS")
	files := readDir(t, dir)
	for name, want := range map[string]string{"root.tar": "a blob", "index.json.fidx": "not the manifest", "SHA256SUMS.blob": "not the sums"} {
		if string(files[name]) != want {
			t.Errorf("%s is %.50q, want %q", name, files[name], want)
		}
	}
	if len(files["root.pxar.didx"]) < 300_000 {
		t.Error("the tree is not under its full name")
	}
}
