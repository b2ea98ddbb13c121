package plain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// What the official tools archived, restored by tar, is what it was.
func TestGoldenArchivesSurviveTar(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and devices are restored by root only")
	}
	for _, name := range []string{"acl", "deep", "fcaps", "flags", "links", "names", "special", "times", "xattr", "tiny", "empty"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata/pxar", name+".pxar"))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			report := writeTar(t, data, "", filepath.Join(dir, "x.tar"), TarOptions{})
			restored := untar(t, dir, "x.tar", "--warning=no-timestamp") // it finds some hard to believe
			want := described(t, data)
			equal(t, described(t, packed(t, restored)), want)
			if report.Entries != int64(len(want)) || (report.Skipped > 0) != (name == "special") || (report.Dropped > 0) != (name == "flags") {
				t.Errorf("report is %+v", report)
			}
		})
	}
}

func TestTarOfAPartHasItsHardLinks(t *testing.T) {
	src := someTree(t)
	data, dir := packed(t, src), t.TempDir()
	writeTar(t, data, "sub", filepath.Join(dir, "x.tar"), TarOptions{Name: "part"})
	restored := untar(t, dir, "x.tar")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(restored, "part"), 0o755) })
	for _, name := range []string{"large", "same", "small2"} {
		want, err := os.ReadFile(filepath.Join(src, "sub", name))
		got, err2 := os.ReadFile(filepath.Join(restored, "part", name))
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	writeTar(t, data, "sub/large", filepath.Join(dir, "y.tar"), TarOptions{Name: "file"})
	if got := run(t, dir, "tar", "tf", "y.tar"); got != "file\n" {
		t.Errorf("the archive of one file lists %q", got)
	}
}

func TestTarLeavesOutAttributesThatDoNotFit(t *testing.T) {
	var b bytes.Buffer
	enc, err := pxar.NewEncoder(&b, &pxar.Metadata{Mode: 0o040755})
	if err != nil {
		t.Fatal(err)
	}
	many := pxar.Metadata{Mode: 0o100644}
	for i := range 20 {
		many.Xattrs = append(many.Xattrs, pxar.Xattr{Name: fmt.Sprintf("user.%d", i), Value: make([]byte, 60_000)})
	}
	w, _, err := enc.File("file", &many, 5)
	if err == nil {
		_, err = io.WriteString(w, "hello")
	}
	if err := errors.Join(err, w.Close(), enc.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	report := writeTar(t, b.Bytes(), "", filepath.Join(dir, "x.tar"), TarOptions{})
	if report.Dropped != 1 || len(report.Notes) != 1 {
		t.Errorf("report is %+v", report)
	}
	if got := run(t, dir, "tar", "xOf", "x.tar", "./file"); got != "hello" {
		t.Errorf("the file is %q", got)
	}
}

func TestArchiveInTwoPartsBecomesOneTar(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners are restored by root only")
	}
	files, o := readDir(t, "testdata/pxar"), newOrigin(t, nil)
	o.dynamic("root.mpxar.didx", files["links.mpxar"])
	o.dynamic("root.ppxar.didx", files["links.ppxar"])
	dir := t.TempDir()
	if _, err := Export(t.Context(), o.open(archive.Options{}), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	restored := untar(t, dir, "root.tar", "--warning=no-timestamp")
	equal(t, described(t, packed(t, restored)), described(t, files["links.pxar"]))
}
