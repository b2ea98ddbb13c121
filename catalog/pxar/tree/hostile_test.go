//go:build linux

package tree

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// A forger writes archives that no honest program writes.
type forger struct {
	t   *testing.T
	buf bytes.Buffer
	enc *pxar.Encoder
}

func newForger(t *testing.T) *forger {
	f := &forger{t: t}
	enc, err := pxar.NewEncoder(&f.buf, f.meta(unix.S_IFDIR|0o755))
	if err != nil {
		t.Fatal(err)
	}
	f.enc = enc
	return f
}

func (f *forger) meta(mode uint32) *pxar.Metadata {
	return &pxar.Metadata{Mode: mode, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

func (f *forger) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *forger) dir(name string) { f.check(f.enc.BeginDir(name, f.meta(unix.S_IFDIR|0o755))) }
func (f *forger) end()            { f.check(f.enc.EndDir()) }
func (f *forger) link(name, target string) {
	f.check(f.enc.Symlink(name, f.meta(unix.S_IFLNK|0o777), target))
}

func (f *forger) file(name, content string) pxar.Position {
	w, at, err := f.enc.File(name, f.meta(unix.S_IFREG|0o644), int64(len(content)))
	f.check(err)
	_, err = w.Write([]byte(content))
	f.check(errors.Join(err, w.Close()))
	return at
}

// done returns the archive, with text replaced by as much other text.
func (f *forger) done(replace ...string) []byte {
	f.check(f.enc.Close())
	data := f.buf.Bytes()
	for i := 0; i < len(replace); i += 2 {
		data = bytes.ReplaceAll(data, []byte(replace[i]), []byte(replace[i+1]))
	}
	return data
}

// Each of these tries to get at the files "secret" or "there" beside the
// target. The directory above the target is $.
func TestHostileArchivesStayInside(t *testing.T) {
	for _, tt := range []struct {
		name  string
		forge func(f *forger, above string) []byte
		opt   ExtractOptions
		there map[string]string // in the target before
		want  []string          // in the target afterwards; nil: nothing is asked but that it stays inside
		fails bool
		luck  bool // whether it fails depends on who is faster
	}{
		{"a name is ..", func(f *forger, _ string) []byte {
			f.dir("XX")
			f.file("evil", "1")
			f.end()
			f.file("good", "1")
			return f.done("XX\x00", "..\x00")
		}, ExtractOptions{}, nil, []string{"good:1"}, true, false},
		{"a name has a slash", func(f *forger, _ string) []byte {
			f.file("XX:evil", "1")
			f.file("good", "1")
			return f.done("XX:evil", "../evil")
		}, ExtractOptions{}, nil, []string{"good:1"}, true, false},
		{"a name is absolute", func(f *forger, above string) []byte {
			f.file(strings.ReplaceAll(above, "/", "X")+"Xevil", "1")
			return f.done(strings.ReplaceAll(above, "/", "X")+"Xevil", above+"/evil")
		}, ExtractOptions{}, nil, nil, true, false},
		{"a directory has the name of a symlink before it", func(f *forger, above string) []byte {
			f.link("a", above)
			f.dir("a")
			f.file("evil", "1")
			f.end()
			return f.done()
		}, ExtractOptions{}, nil, nil, true, false},
		{"the same, overwriting", func(f *forger, above string) []byte {
			f.link("a", above)
			f.dir("a")
			f.file("evil", "1")
			f.end()
			return f.done()
		}, ExtractOptions{Overwrite: true}, map[string]string{"x": ""}, nil, false, true},
		{"a file has the name of a symlink before it", func(f *forger, above string) []byte {
			f.link("a", above+"/there")
			f.file("a", "evil")
			return f.done()
		}, ExtractOptions{Overwrite: true}, map[string]string{"x": ""}, nil, false, false},
		{"the target has a symlink where a directory goes", func(f *forger, _ string) []byte {
			f.dir("a")
			f.file("evil", "1")
			f.end()
			return f.done()
		}, ExtractOptions{AllowExistingDirs: true}, map[string]string{"a": "->.."}, []string{"a -> .."}, true, false},
		{"a hard link goes through a symlink", func(f *forger, above string) []byte {
			at := f.file("secret", "1")
			f.link("aa", above)
			f.check(f.enc.Hardlink("copy", "aa/secret", at))
			return f.done()
		}, ExtractOptions{}, nil, []string{"secret:1", "aa -> $", "copy:1"}, false, false},
		{"a hard link is to ..", func(f *forger, _ string) []byte {
			at := f.file("secret", "1")
			f.check(f.enc.Hardlink("copy", "XX/secret", at))
			return f.done("XX/secret", "../secret")
		}, ExtractOptions{}, nil, nil, true, false},
		{"a hard link is absolute", func(f *forger, above string) []byte {
			at := f.file("secret", "1")
			f.check(f.enc.Hardlink("copy", "X"+above[1:]+"/secret", at))
			return f.done("X"+above[1:]+"/secret", above+"/secret")
		}, ExtractOptions{}, nil, nil, true, false},
		{"a hard link names a file that was there, and means another", func(f *forger, _ string) []byte {
			f.dir("d")
			at := f.file("private", "1")
			f.end()
			f.check(f.enc.Hardlink("public", "private", at))
			return f.done()
		}, ExtractOptions{AllowExistingDirs: true}, map[string]string{"private": "key"}, []string{"d/", "d/private:1", "private:key", "public:1"}, false, false},
		{"a hard link is to a directory", func(f *forger, _ string) []byte {
			at := pxar.Position(f.enc.Offset())
			f.dir("d")
			f.end()
			f.check(f.enc.Hardlink("public", "d", at))
			return f.done()
		}, ExtractOptions{}, nil, []string{"d/"}, true, false},
		{"two files have one name", func(f *forger, _ string) []byte {
			f.file("a", "1")
			f.file("a", "2")
			return f.done()
		}, ExtractOptions{Workers: 1}, nil, []string{"a:1"}, true, false},
		{"an ACL has impossible entries", func(f *forger, _ string) []byte {
			m := f.meta(unix.S_IFIFO | 0o600)
			f.check(f.enc.Node("fifo", m))
			m = f.meta(unix.S_IFDIR | 0o755)
			perm := uint64(1 << 40)
			m.ACL = pxar.ACL{GroupObj: &perm, Users: []pxar.ACLEntry{{ID: 1, Perm: 99}}, Default: &pxar.ACLDefault{UserObj: 77}}
			f.check(f.enc.BeginDir("d", m))
			f.end()
			return f.done()
		}, ExtractOptions{}, nil, []string{"d/", "fifo fifo"}, false, false},
		{"a device number is larger than any", func(f *forger, _ string) []byte {
			f.check(f.enc.Device("d", f.meta(unix.S_IFCHR|0o600), pxar.Device{Major: 1 << 40, Minor: 1}))
			return f.done()
		}, ExtractOptions{}, nil, nil, true, false},
		{"a time and a flag are impossible", func(f *forger, _ string) []byte {
			m := f.meta(unix.S_IFDIR | 0o755)
			m.Mtime.Sec, m.Flags, m.ProjectID = 1<<62, 1<<63, 1<<40
			f.check(f.enc.BeginDir("d", m))
			f.end()
			return f.done()
		}, ExtractOptions{}, nil, []string{"d/"}, false, false},
		{"an attribute is a security label", func(f *forger, _ string) []byte {
			m := f.meta(unix.S_IFDIR | 0o755)
			m.Xattrs = []pxar.Xattr{{Name: "security.selinux", Value: []byte("x")}, {Name: "system.posix_acl_access", Value: []byte("x")}}
			f.check(f.enc.BeginDir("d", m))
			f.end()
			return f.done()
		}, ExtractOptions{}, nil, []string{"d/"}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			above := plant(t, map[string]string{"secret": "secret", "there": "there"})
			target := filepath.Join(above, "target")
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Fatal(err)
			}
			add(t, target, tt.there)
			data := tt.forge(newForger(t), above)
			a, err := pxar.OpenArchive(bytes.NewReader(data), int64(len(data)), pxar.Options{})
			if err != nil {
				t.Fatal(err)
			}
			noLeaks(t)
			report, err := Extract(t.Context(), a, target, tt.opt)
			if (err != nil) != tt.fails && !tt.luck {
				t.Errorf("error is %v, report %+v", err, report)
			}
			checkUntouched(t, above)
			if tt.want != nil {
				want := slices.Clone(tt.want)
				for i := range want {
					want[i] = strings.ReplaceAll(want[i], "$", above)
				}
				slices.Sort(want)
				wantTree(t, target, want...)
			}
		})
	}
}

// checkUntouched checks that nothing but target changed in above.
func checkUntouched(t *testing.T, above string) {
	t.Helper()
	names, err := os.ReadDir(above)
	if err != nil || len(names) != 3 {
		t.Errorf("beside the target: %v, %v", names, err)
	}
	for _, name := range []string{"secret", "there"} {
		content, err := os.ReadFile(filepath.Join(above, name))
		var st unix.Stat_t
		err = errors.Join(err, unix.Stat(filepath.Join(above, name), &st))
		if err != nil || string(content) != name || st.Nlink != 1 || st.Mode&inode.ModeBits != 0o644 {
			t.Errorf("%s has content %q, %d names, mode %o, %v", name, content, st.Nlink, st.Mode, err)
		}
	}
}

// FuzzExtractStaysInside damages an archive with everything in it at one or
// two places, and extracts what there is.
func FuzzExtractStaysInside(f *testing.F) {
	above := plant(f, map[string]string{"secret": "secret", "there": "there"})
	source := plant(f, map[string]string{"a/x": "1", "a/b/y": strings.Repeat("y", 5000), "l": "->../there", "h": "=a/x", "z/": "", "zz": "->.."})
	data, _ := archiveOf(f, source, Options{})
	f.Add(0, byte(0), 0, byte(0))
	f.Add(bytes.Index(data, []byte("../there")), byte('/'), bytes.Index(data, []byte("zz\x00")), byte('.'))
	for at := 16; at < len(data); at += 97 {
		f.Add(at, byte(0xff), at/2, byte(1))
	}
	f.Fuzz(func(t *testing.T, at1 int, change1 byte, at2 int, change2 byte) {
		if at1 < 0 || at2 < 0 {
			return
		}
		forged := bytes.Clone(data)
		forged[at1%len(data)] ^= change1
		forged[at2%len(data)] ^= change2
		a, err := pxar.OpenArchive(bytes.NewReader(forged), int64(len(forged)), pxar.Options{})
		if err != nil {
			return
		}
		target := filepath.Join(above, "target")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		report, err := Extract(t.Context(), a, target, ExtractOptions{IgnoreOwnership: true})
		if err == nil && report.DamagedCount > 0 {
			t.Errorf("no error, and damage: %+v", report)
		}
		checkUntouched(t, above)
		clearFlags(t, target)
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
	})
}
