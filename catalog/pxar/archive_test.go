package pxar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

func openBytes(t testing.TB, data []byte) *Archive {
	t.Helper()
	a, err := OpenArchive(bytes.NewReader(data), int64(len(data)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// list returns the paths below n in the order of the archive.
func list(t testing.TB, n *Node) (all []string) {
	t.Helper()
	for c, err := range n.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Path())
		if c.Kind == Dir {
			all = append(all, list(t, c)...)
		}
	}
	return all
}

func root(t testing.TB, a *Archive) *Node {
	t.Helper()
	n, err := a.Root()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestListingsAgreeWithTheDecoder(t *testing.T) {
	for _, g := range goldens(t) {
		if got, want := list(t, root(t, g.archive(t))), names(t, g.decoder(true)); !slices.Equal(got, want) {
			t.Errorf("%s: listing is %q, want %q", g.name, got, want)
		}
	}
}

func TestChildrenAreSortedByName(t *testing.T) {
	g := golden{meta: readFile(t, "testdata/v1/names.pxar")}
	all, err := root(t, g.archive(t)).Children()
	if err != nil || len(all) < 20 {
		t.Fatal(len(all), err)
	}
	for i, n := range all[1:] {
		if n.Name <= all[i].Name {
			t.Errorf("%q follows %q", n.Name, all[i].Name)
		}
	}
}

func TestArchivesOfOthersAreRead(t *testing.T) {
	data := readFile(t, "testdata/third-party/pbmac-v2-unified.pxar")
	a := openBytes(t, data)
	paths := list(t, root(t, a))
	if want := names(t, NewDecoder(bytes.NewReader(data))); !slices.Equal(paths, want) || len(paths) < 5 {
		t.Fatalf("listing is %q, want %q", paths, want)
	}
	d := NewDecoder(bytes.NewReader(data))
	for {
		e, err := d.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if e.Kind == DirEnd {
			continue
		}
		n, err := a.Find(e.Path())
		if err != nil {
			t.Fatal(err)
		}
		if n.Position != e.Position || n.Kind != e.Kind {
			t.Errorf("%s is a %v at %d, want a %v at %d", e.Path(), n.Kind, n.Position, e.Kind, e.Position)
		}
		if n.Kind == File {
			content, err := n.Content()
			must(t, err)
			if got, want := sum(t, content), sum(t, d.Content()); got != want {
				t.Errorf("%s: content %s, want %s", e.Path(), got, want)
			}
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	g := golden{meta: readFile(t, "testdata/v1/links.pxar")}
	a := g.archive(t)
	for _, path := range []string{"none", "d1/none", "d1/target/x", "s-dir/target", "..", "d1/..", "d1\x00"} {
		if n, err := a.Find(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("find %q: %v, %v", path, n, err)
		}
	}
	for _, path := range []string{"", "/", ".", "//./"} {
		if n, err := a.Find(path); err != nil || n.Depth != 0 {
			t.Errorf("find %q: %v, %v", path, n, err)
		}
	}
	n, err := a.Find("/d1//target/")
	if err != nil || n.Path() != "d1/target" {
		t.Errorf("target is %v, %v", n, err)
	}
	if _, err := n.Lookup("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("look up in a file: %v", err)
	}
	if _, err := n.Children(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("list a file: %v", err)
	}
	if _, err := root(t, a).Content(); err == nil {
		t.Error("a directory has content")
	}
}

// pieces counts reads, and the pieces of 4 MiB that they touch.
type pieces struct {
	r     io.ReaderAt
	mu    sync.Mutex
	seen  map[int64]bool
	reads int
}

func (p *pieces) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	for i := off >> 22; i <= (off+int64(len(b))-1)>>22; i++ {
		p.seen[i] = true
	}
	return p.r.ReadAt(b, off)
}

// largeArchive returns an archive of 3 GiB whose large contents are holes.
func largeArchive(t *testing.T) (f *os.File, size int64) {
	t.Helper()
	f, err := os.Create(t.TempDir() + "/large.pxar")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	at := int64(0)
	e := begin(t, writerFunc(func(p []byte) (int, error) {
		if len(p) < outputBuffer { // contents come in writes of this size
			if _, err := f.WriteAt(p, at); err != nil {
				return 0, err
			}
		}
		at += int64(len(p))
		return len(p), nil
	}))
	block := make([]byte, outputBuffer)
	for top := range 3 {
		must(t, e.BeginDir(fmt.Sprint("top", top), dirMeta))
		for sub := range 16 {
			must(t, e.BeginDir(fmt.Sprint("sub", sub), dirMeta))
			for i := range 64 {
				w, _, err := e.File(fmt.Sprint("file", i), fileMeta, outputBuffer)
				must(t, err)
				_, err = w.Write(block)
				must(t, err, w.Close())
				addFile(t, e, fmt.Sprint("small", i), strings.Repeat("s", 10<<10))
			}
			must(t, e.EndDir())
		}
		must(t, e.EndDir())
	}
	must(t, e.Close())
	must(t, f.Truncate(at))
	return f, at
}

func TestOneFileOfALargeArchiveTouchesFewPieces(t *testing.T) {
	f, size := largeArchive(t)
	if size < 3<<30 {
		t.Fatalf("archive has %d bytes", size)
	}
	most, total := 0, 0
	for i := range 48 {
		p := &pieces{r: f, seen: map[int64]bool{}}
		a, err := OpenArchive(p, size, Options{})
		must(t, err)
		n, err := a.Find(fmt.Sprintf("top%d/sub%d/small%d", i/16, i%16, i%64))
		must(t, err)
		content, err := n.Content()
		must(t, err)
		got, err := io.ReadAll(content)
		must(t, err)
		if string(got) != strings.Repeat("s", 10<<10) {
			t.Fatalf("%s has another content", n.Path())
		}
		if p.reads > 4+10 { // three tables, an entry, and io.ReadAll's many
			t.Errorf("%s took %d reads", n.Path(), p.reads)
		}
		most, total = max(most, len(p.seen)), total+len(p.seen)
	}
	// The ends of the root, of top and of sub, and the file.
	if most > 4 || total > 48*4 {
		t.Errorf("up to %d pieces for a file, %d for 48", most, total)
	}
	t.Logf("%d pieces for 48 files three levels down, at most %d for one", total, most)
}

func TestTablesAreReadOnce(t *testing.T) {
	data := readFile(t, "testdata/v1/many.pxar")
	p := &pieces{r: bytes.NewReader(data), seen: map[int64]bool{}}
	a, err := OpenArchive(p, int64(len(data)), Options{})
	must(t, err)
	opened := p.reads
	n := root(t, a)
	if got := list(t, n); len(got) < 1000 {
		t.Fatalf("%d entries", len(got))
	}
	if p.reads-opened > 10 {
		t.Errorf("a listing of 125 kB took %d reads", p.reads-opened)
	}
}

// A damaged reader fails where one range of it is touched.
type damaged struct {
	data       []byte
	start, end int64
}

func (d *damaged) ReadAt(p []byte, off int64) (int, error) {
	if off < d.end && off+int64(len(p)) > d.start {
		n := copy(p, d.data[off:max(off, d.start)])
		return n, iotest.ErrTimeout
	}
	return bytes.NewReader(d.data).ReadAt(p, off)
}

func TestDamageHitsOnlyWhatIsThere(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	addFile(t, e, "a", strings.Repeat("a", 5000))
	must(t, e.BeginDir("d", dirMeta))
	pos := addFile(t, e, "e", strings.Repeat("e", 5000))
	must(t, e.EndDir())
	addFile(t, e, "f", strings.Repeat("f", 5000))
	must(t, e.Close())
	r := &damaged{data: out.Bytes(), start: int64(pos) + 20, end: int64(pos) + 30}
	a, err := OpenArchive(r, int64(out.Len()), Options{})
	must(t, err)
	all, err := root(t, a).Children()
	if err != nil || len(all) != 3 {
		t.Fatalf("root: %d entries, %v", len(all), err)
	}
	if all, err := all[1].Children(); len(all) != 0 || !errors.Is(err, iotest.ErrTimeout) || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf("directory with the damage: %d entries, %v", len(all), err)
	}
	content, err := all[2].Content()
	must(t, err)
	if n, err := io.Copy(io.Discard, content); n != 5000 || err != nil {
		t.Errorf("file behind the damage: %d bytes, %v", n, err)
	}
}

func TestErrorsOfManyEntriesAreCounted(t *testing.T) {
	var entries []byte
	var records []goodbye.Record
	for i := range 20 {
		records = append(records, goodbye.Record{Hash: uint64(i), Offset: uint64(18 * (20 - i)), Size: 18})
		entries = append(entries, name("a")...)
	}
	_, err := root(t, openBytes(t, tableOf(entries, records...))).Children()
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "12 more entries") {
		t.Errorf("error %v", err)
	}
}

func TestArchiveIsSafeForConcurrentUse(t *testing.T) {
	g := golden{meta: readFile(t, "testdata/v1/links.pxar")}
	a := g.archive(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			n, err := a.Root()
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				all, err := n.Children()
				if err != nil || len(all) != 13 {
					t.Error(len(all), err)
				}
				if _, err := a.Find("d1/target"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSplitArchivesNeedTheirPayload(t *testing.T) {
	meta := readFile(t, "testdata/v2/tiny.mpxar")
	n, err := openBytes(t, meta).Find("a")
	must(t, err)
	if _, err := n.Content(); !errors.Is(err, errNoPayload) {
		t.Errorf("content without payload: %v", err)
	}
	payload := readFile(t, "testdata/v2/tiny.ppxar")
	for _, test := range []struct {
		name string
		size int
	}{{"cut in the header", 20}, {"cut in the content", 36}} {
		a, err := OpenArchive(bytes.NewReader(meta), int64(len(meta)), Options{Payload: bytes.NewReader(payload), PayloadSize: int64(test.size)})
		must(t, err)
		n, err := a.Find("a")
		must(t, err)
		if _, err := n.Content(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
