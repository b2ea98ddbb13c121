//go:build linux && !386 && !arm && !mips && !mipsle

package mount

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// An item is an entry of an archive to be made. Directories end in "/".
type item struct {
	path    string
	mode    uint32
	content []byte // of a file; the target of a symbolic link
	meta    pxar.Metadata
	device  pxar.Device
	link    string // the file that a hard link is another name of
}

const (
	typeDir, typeFile, typeLink         = 0o040000, 0o100000, 0o120000
	typeBlock, typeChar, typeFifo, sock = 0o060000, 0o020000, 0o010000, 0o140000
)

// build makes an archive of items, whose directories come before what is in
// them.
func build(t testing.TB, items []item) []byte {
	t.Helper()
	var out bytes.Buffer
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e, err := pxar.NewEncoder(&out, &pxar.Metadata{Mode: typeDir | 0o755, Mtime: pxar.Timespec{Sec: 1700000000}})
	must(err)
	var dirs []string
	at := map[string]pxar.Position{}
	for _, i := range items {
		m := i.meta
		m.Mode = i.mode
		isDir := strings.HasSuffix(i.path, "/")
		dir, name := filepath.Split(strings.TrimSuffix(i.path, "/"))
		for len(dirs) > 0 && dirs[len(dirs)-1] != dir {
			must(e.EndDir())
			dirs = dirs[:len(dirs)-1]
		}
		switch {
		case isDir:
			must(e.BeginDir(name, &m))
			dirs = append(dirs, i.path)
		case i.link != "":
			must(e.Hardlink(name, i.link, at[i.link]))
		case i.mode&0o170000 == typeLink:
			must(e.Symlink(name, &m, string(i.content)))
		case i.mode&0o170000 == typeBlock, i.mode&0o170000 == typeChar:
			must(e.Device(name, &m, i.device))
		case i.mode&0o170000 == typeFile:
			w, pos, err := e.File(name, &m, int64(len(i.content)))
			must(err)
			_, err = w.Write(i.content)
			must(err)
			must(w.Close())
			at[i.path] = pos
		default:
			must(e.Node(name, &m))
		}
	}
	for range dirs {
		must(e.EndDir())
	}
	must(e.Close())
	return out.Bytes()
}

// archiveOf opens an archive that was built.
func archiveOf(t testing.TB, r io.ReaderAt, size int) *pxar.Archive {
	t.Helper()
	a, err := pxar.OpenArchive(r, int64(size), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// needFUSE skips where nothing can be mounted.
func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no FUSE to test with: %v", err)
	}
	f.Close()
	if _, err := helper(); os.Geteuid() != 0 && err != nil {
		t.Skip("mounting needs root or fusermount3")
	}
}

// A mounted content, and how to end it.
type mounted struct {
	dir    string
	cancel context.CancelFunc
	result chan error
}

// show mounts c until the test ends.
func show(t testing.TB, c Content, opt Options) *mounted {
	t.Helper()
	needFUSE(t)
	ctx, cancel := context.WithCancel(context.Background())
	m := &mounted{dir: t.TempDir(), cancel: cancel, result: make(chan error, 1)}
	ready := make(chan struct{})
	opt.Ready = func() { close(ready) }
	go func() { m.result <- Mount(ctx, m.dir, c, opt) }()
	select {
	case <-ready:
	case err := <-m.result:
		if os.IsPermission(err) || strings.Contains(err.Error(), "operation not permitted") {
			t.Skipf("this machine does not let us mount: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(t) })
	return m
}

// end unmounts, and fails if that takes long or does not work.
func (m *mounted) end(t testing.TB) {
	t.Helper()
	m.cancel()
	select {
	case err, first := <-m.result:
		if first && err != nil {
			t.Errorf("unmount: %v", err)
		}
		if first {
			close(m.result)
		}
	case <-time.After(10 * time.Second):
		t.Error("the mount does not end")
	}
}
