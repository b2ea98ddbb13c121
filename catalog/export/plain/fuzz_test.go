package plain

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// Whatever an entry is called and has, it becomes a tar header that says the
// same, or none.
func FuzzTarNames(f *testing.F) {
	f.Add("a", "target", "user.x", []byte("value"), int64(1_700_000_000), uint32(5), uint32(0o100644), uint32(0))
	f.Add(strings.Repeat("\xff\n", 120), "..", "user.a=b%c", []byte{0, 10, 255}, int64(-1), uint32(999_999_999), uint32(0o120777), uint32(1<<32-1))
	f.Add("-x", "/", "=", []byte{}, int64(1)<<40, uint32(0), uint32(0o040000), uint32(65534))
	f.Fuzz(func(t *testing.T, name, target, attr string, value []byte, sec int64, nsec, mode, uid uint32) {
		var b bytes.Buffer
		meta := pxar.Metadata{Mode: mode, UID: uid, Mtime: pxar.Timespec{Sec: sec, Nsec: nsec}, Xattrs: []pxar.Xattr{{Name: attr, Value: value}}}
		root := pxar.Metadata{Mode: 0o040755}
		enc, err := pxar.NewEncoder(&b, &root)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case meta.IsDir():
			if err = enc.BeginDir(name, &meta); err == nil {
				err = enc.EndDir()
			}
		case meta.IsSymlink():
			err = enc.Symlink(name, &meta, target)
		case meta.IsRegular():
			var w io.WriteCloser
			if w, _, err = enc.File(name, &meta, 0); err == nil {
				err = w.Close()
			}
		default:
			err = enc.Node(name, &meta)
		}
		if err != nil {
			return
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		checkTar(t, b.Bytes(), name)
	})
}

func checkTar(t *testing.T, data []byte, name string) {
	t.Helper()
	var out bytes.Buffer
	n := openNode(t, data, "")
	report, err := Tar(context.Background(), &out, n, TarOptions{KeepGoing: true})
	if err != nil && report.Lost == 0 {
		t.Fatal(err)
	}
	r := tar.NewReader(&out)
	seen := 0
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the archive cannot be read: %v", err)
		}
		if seen++; seen == 2 && strings.TrimSuffix(h.Name, "/") != "./"+name {
			t.Errorf("%q is called %q", name, h.Name)
		}
	}
	if int64(seen) != report.Entries || report.Entries+report.Lost+report.Skipped != 2 {
		t.Errorf("%d entries are there, report is %+v", seen, report)
	}
}
