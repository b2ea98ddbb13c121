package plain

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// run runs a program in dir, which restores as its users would.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip("this machine has no ", name)
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// untar unpacks an archive with GNU tar as RESTORE.txt says.
func untar(t *testing.T, dir, file string, options ...string) string {
	t.Helper()
	if !strings.Contains(run(t, dir, "tar", "--version"), "GNU") {
		t.Skip("tar is not GNU's")
	}
	target := t.TempDir()
	out := run(t, dir, "tar", append(options, "--extract", "--file="+file, "--directory="+target, "--preserve-permissions",
		"--same-owner", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*")...)
	if out != "" {
		t.Errorf("tar says %q", out)
	}
	return target
}

// packed archives a directory.
func packed(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	report, err := tree.Create(t.Context(), dir, tree.Sinks{Archive: &b}, tree.Options{})
	if err != nil || report.WarningCount > 0 {
		t.Fatalf("archive %s: %v, %v", dir, err, report.Warnings)
	}
	return b.Bytes()
}

// described says everything of an archive that a tar archive keeps.
func described(t *testing.T, data []byte) map[string]string {
	t.Helper()
	all, d := map[string]string{}, pxar.NewDecoder(bytes.NewReader(data))
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pxar.DirEnd || e.Kind == pxar.Socket {
			continue
		}
		content, err := io.ReadAll(d.Content())
		if err != nil {
			t.Fatal(err)
		}
		m := e.Metadata
		slices.SortFunc(m.Xattrs, func(a, b pxar.Xattr) int { return cmp.Compare(a.Name, b.Name) })
		acl := "none"
		if !m.ACL.IsZero() {
			records := map[string]string{}
			addACL(records, &m)
			acl = fmt.Sprintf("%q", records)
		}
		all[e.Path()] = fmt.Sprintf("%v %o %d:%d %v %q %s %x %q %v size %d %x", e.Kind, m.Mode, m.UID, m.GID, m.Mtime,
			m.Xattrs, acl, m.FCaps, e.Target, e.Device, e.Size, chunks.Sum(content))
	}
}

// someTree makes a directory of what an ordinary user can have.
func someTree(t *testing.T) string {
	t.Helper()
	dir, rnd := t.TempDir(), rand.New(rand.NewPCG(7, 8))
	at := time.Unix(1_700_000_000, 123_456_789)
	put := func(name string, n int) {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o640), os.Chtimes(name, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	put("empty", 0)
	put("small", 5)
	put("sub/large", 300_000)
	put("sub/-n \n\"'*\xff", 10)
	put("sub/"+strings.Repeat("long", 60)+"/"+strings.Repeat("name", 60), 77)
	put("=a%b", 1)
	for link, target := range map[string]string{"dangling": "../nowhere", "sub/far": strings.Repeat("x/", 200) + "y"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(dir, "sub/large"), filepath.Join(dir, "sub/same")),
		os.Link(filepath.Join(dir, "small"), filepath.Join(dir, "sub/small2")),
		os.Mkdir(filepath.Join(dir, "void"), 0o700), os.Chmod(filepath.Join(dir, "sub"), 0o555),
		os.Chtimes(filepath.Join(dir, "sub"), at, at), os.Chtimes(dir, at, at)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "sub"), 0o755) }) // so that it can be removed
	return dir
}

func someImage() []byte {
	image := chunktest.Random(9, 1<<20+4321)
	clear(image[100_000:700_000])
	return image
}

func openNode(t *testing.T, data []byte, path string) *pxar.Node {
	t.Helper()
	a, err := pxar.OpenArchive(bytes.NewReader(data), int64(len(data)), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if path == "" {
		root, err := a.Root()
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	n, err := a.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func writeTar(t *testing.T, data []byte, path, file string, opt TarOptions) TarReport {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Tar(t.Context(), f, openNode(t, data, path), opt)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return report
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
	text, err := os.ReadFile("testdata/key.json")
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

// equal fails the test unless two trees are the same.
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
