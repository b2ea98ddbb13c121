//go:build linux

package tree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// A gardener makes a random tree of everything the running user may make.
type gardener struct {
	t     *testing.T
	rnd   *rand.Rand
	root  bool
	files []string
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			noLeaks(t)
			g := &gardener{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), root: os.Geteuid() == 0}
			source, target := t.TempDir(), t.TempDir()
			g.directory(source, 4)
			first, report := archiveOf(t, source, Options{})
			if report.WarningCount > 0 {
				t.Fatal(report.Warnings)
			}
			out := mustExtract(t, first, target, ExtractOptions{Workers: 1 + int(seed%5)})
			if out.WarningCount > 0 {
				t.Error(out.Warnings)
			}
			report.Excluded, report.Mounts = out.Excluded, out.Mounts
			if fmt.Sprint(report) != fmt.Sprint(out) {
				t.Errorf("archived %+v\nextracted %+v", report, out)
			}
			if again, _ := archiveOf(t, target, Options{Workers: 1}); !bytes.Equal(again, first) {
				t.Errorf("archived again it is different:\n%q\nwant\n%q", contents(t, again), contents(t, first))
			}
		})
	}
}

// directory fills dir and gives it its attributes at the end.
func (g *gardener) directory(dir string, depth int) {
	for range g.rnd.IntN(12) {
		at := filepath.Join(dir, g.name())
		if _, err := os.Lstat(at); err == nil {
			continue
		}
		switch g.rnd.IntN(8) {
		case 0, 1:
			if depth > 0 {
				g.check(os.Mkdir(at, 0o700))
				g.directory(at, depth-1)
			}
		case 2:
			g.check(os.Symlink(g.name(), at))
			g.times(at)
		case 3:
			g.check(unix.Mknod(at, []uint32{unix.S_IFIFO, unix.S_IFSOCK}[g.rnd.IntN(2)]|0o600, 0))
			g.attributes(at, 0o600, false)
		case 4:
			if len(g.files) > 0 {
				g.check(os.Link(g.files[g.rnd.IntN(len(g.files))], at))
			}
		case 5:
			if g.root {
				g.check(unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(g.rnd.IntN(4096)), uint32(g.rnd.IntN(1<<20))))))
				g.attributes(at, 0o600, false)
			}
		default:
			g.check(os.WriteFile(at, g.content(), 0o600))
			g.attributes(at, 0o400, true)
			g.files = append(g.files, at)
		}
	}
	g.attributes(dir, 0o700, true)
}

// attributes sets a mode with at least the bits of least, an owner, a time
// and extended attributes.
func (g *gardener) attributes(at string, least uint32, xattrs bool) {
	if xattrs && g.rnd.IntN(3) == 0 {
		for i := range g.rnd.IntN(4) {
			value := make([]byte, g.rnd.IntN(100))
			if err := unix.Setxattr(at, fmt.Sprintf("user.%d", i), value, 0); err != nil && !inode.Lacks(err) {
				g.check(err)
			}
		}
	}
	if g.root && g.rnd.IntN(2) == 0 {
		g.check(os.Chown(at, g.rnd.IntN(70000), g.rnd.IntN(70000)))
	}
	g.check(unix.Chmod(at, g.rnd.Uint32N(0o7777+1)&^0o2000|least))
	g.times(at)
}

func (g *gardener) times(at string) {
	m := unix.Timespec{Nsec: g.rnd.Int64N(1e9)}
	m.Sec = g.rnd.Int64N(4e9) - 2e9
	g.check(unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{m, m}, unix.AT_SYMLINK_NOFOLLOW))
}

// content has holes and sizes around the limits that the code knows.
func (g *gardener) content() []byte {
	sizes := []int{0, 1, 4096, 10000, maxSmall, maxSmall + 1, readBlock + 5000}
	b := make([]byte, sizes[g.rnd.IntN(len(sizes))])
	for i := 0; i < len(b); i += 1 + g.rnd.IntN(20000) {
		b[i] = byte(g.rnd.IntN(256))
	}
	return b
}

// name returns any bytes a file system takes, and often short ones.
func (g *gardener) name() string {
	b := make([]byte, 1+g.rnd.IntN(1+g.rnd.IntN(200)))
	for i := range b {
		if b[i] = byte(g.rnd.IntN(256)); b[i] == 0 || b[i] == '/' || b[i] == '.' {
			b[i] = 'x'
		}
	}
	return string(b)
}

func (g *gardener) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// smallFiles makes a tree of n files of size bytes, a hundred in a directory.
func smallFiles(b *testing.B, n, size int) string {
	root := b.TempDir()
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i*7 + 1)
	}
	for i := range n {
		dir := fmt.Sprintf("%s/%d", root, i/100)
		if i%100 == 0 {
			if err := os.Mkdir(dir, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), content, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return root
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkCreateSmallFiles(b *testing.B) {
	const files = 5000
	root := smallFiles(b, files, 8<<10)
	b.SetBytes(files * 8 << 10)
	start := time.Now()
	for b.Loop() {
		if _, err := Create(b.Context(), root, Sinks{Archive: discard{}}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(files*b.N)/time.Since(start).Seconds(), "files/s")
}

func BenchmarkExtractSmallFiles(b *testing.B) {
	const files = 2000
	data, _ := archiveOf(b, smallFiles(b, files, 8<<10), Options{})
	b.SetBytes(files * 8 << 10)
	start := time.Now()
	for b.Loop() {
		if _, err := Extract(b.Context(), openArchive(b, data), b.TempDir(), ExtractOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(files*b.N)/time.Since(start).Seconds(), "files/s")
}
