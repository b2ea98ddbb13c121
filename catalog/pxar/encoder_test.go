package pxar

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	testMtime = Timespec{1700000000, 123456789}
	dirMeta   = &Metadata{Mode: modeDir | 0o755, Mtime: testMtime}
	fileMeta  = &Metadata{Mode: modeRegular | 0o644, Mtime: testMtime}
	linkMeta  = &Metadata{Mode: modeSymlink | 0o777, Mtime: testMtime}
	fifoMeta  = &Metadata{Mode: modeFifo | 0o644, Mtime: testMtime}
	charMeta  = &Metadata{Mode: modeChar | 0o644, Mtime: testMtime}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of the pxar notes, §8.
const (
	vectorEmpty = `efac88e5746495d5 3800000000000000 ed41000000000000 0000000000000000 00000000 00000000 00f1536500000000 15cd5b07 00000000
1d73d542a64fec2f 2800000000000000 55153e755bed5eef 3800000000000000 2800000000000000`
	vectorEntries = `efac88e5746495d53800000000000000ed410000000000000000000000000000000000000000000000f153650000000015cd5b0700000000
b3173906211170161200000000000000 6100
efac88e5746495d53800000000000000a4810000000000000000000000000000000000000000000000f153650000000015cd5b0700000000`
	vectorOne = vectorEntries + `251a7c0b1b7a14281500000000000000 68656c6c6f
1d73d542a64fec2f4000000000000000 cf7b2c7c06e9260c5f000000000000005f00000000000000 55153e755bed5eef97000000000000004000000000000000`
	vectorSplit = `0da416df756c0f73 1800000000000000 0200000000000000
1b777b9f9dd709e3 2e00000000000000 7b226578636c7564652d7061747465726e73223a222a2e746d705c6e227d` + vectorEntries + `
7e97bac46b3d9d41 2000000000000000 1000000000000000 0500000000000000
1d73d542a64fec2f 4000000000000000 cf7b2c7c06e9260c 6a00000000000000 6f00000000000000 55153e755bed5eef e800000000000000 4000000000000000`
	vectorPayload = `d24e4a19c2684c83 1000000000000000  251a7c0b1b7a1428 1500000000000000 68656c6c6f  b5814c988bb7726c 1000000000000000`
)

func begin(t testing.TB, w io.Writer) *Encoder {
	t.Helper()
	e, err := NewEncoder(w, dirMeta)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func addFile(t testing.TB, e *Encoder, name, content string) Position {
	t.Helper()
	w, pos, err := e.File(name, fileMeta, int64(len(content)))
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestVectorsOfTheFormat(t *testing.T) {
	var empty, one, meta, payload bytes.Buffer
	must(t, begin(t, &empty).Close())
	e := begin(t, &one)
	addFile(t, e, "a", "hello")
	must(t, e.Close())
	e, err := NewSplitEncoder(&meta, &payload, dirMeta, []byte(`{"exclude-patterns":"*.tmp\n"}`))
	must(t, err)
	addFile(t, e, "a", "hello")
	must(t, e.Close())
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"empty", empty.Bytes(), vectorEmpty}, {"one file", one.Bytes(), vectorOne},
		{"split", meta.Bytes(), vectorSplit}, {"payload", payload.Bytes(), vectorPayload},
	} {
		if want := unhex(t, test.want); !bytes.Equal(test.got, want) {
			t.Errorf("%s: wrote\n%x, want\n%x", test.name, test.got, want)
		}
	}
}

func TestEncoderRefusesWhatCannotBeAndGoesOn(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	file := func(name string, m *Metadata, size int64) error {
		_, _, err := e.File(name, m, size)
		return err
	}
	with := func(change func(*Metadata)) *Metadata {
		m := *fileMeta
		change(&m)
		return &m
	}
	long := strings.Repeat("n", MaxName)
	at := e.Offset()
	for _, test := range []struct {
		name string
		err  error
	}{
		{"no name", e.BeginDir("", dirMeta)},
		{"the directory itself", e.BeginDir(".", dirMeta)},
		{"the parent", e.BeginDir("..", dirMeta)},
		{"a path", file("a/b", fileMeta, 0)},
		{"a NUL", file("a\x00", fileMeta, 0)},
		{"a name that is too long", file(long+"n", fileMeta, 0)},
		{"a negative size", file("a", fileMeta, -1)},
		{"a directory as file", file("a", dirMeta, 0)},
		{"a file as directory", e.BeginDir("a", fileMeta)},
		{"a file as link", e.Symlink("a", fileMeta, "b")},
		{"a file as device", e.Device("a", fileMeta, Device{})},
		{"a file as fifo", e.Node("a", fileMeta)},
		{"a link with NUL", e.Symlink("a", linkMeta, "b\x00c")},
		{"a link that is too long", e.Symlink("a", linkMeta, long+"n")},
		{"a hard link to the root", e.Hardlink("a", "b", 0)},
		{"a hard link ahead", e.Hardlink("a", "b", Position(e.Offset()))},
		{"a hard link out of the archive", e.Hardlink("a", "../b", 1)},
		{"a hard link to an absolute path", e.Hardlink("a", "/b", 1)},
		{"a whole second of nanoseconds", file("a", with(func(m *Metadata) { m.Mtime.Nsec = 1e9 }), 0)},
		{"an attribute without name", file("a", with(func(m *Metadata) { m.Xattrs = []Xattr{{}} }), 0)},
		{"an attribute with NUL", file("a", with(func(m *Metadata) { m.Xattrs = []Xattr{{Name: "a\x00"}} }), 0)},
		{"a name of an attribute that is too long", file("a", with(func(m *Metadata) { m.Xattrs = []Xattr{{Name: long[:256]}} }), 0)},
		{"a value that is too large", file("a", with(func(m *Metadata) { m.Xattrs = []Xattr{{"u", make([]byte, MaxXattr)}} }), 0)},
		{"capabilities that are too large", file("a", with(func(m *Metadata) { m.FCaps = make([]byte, MaxXattr+1) }), 0)},
		{"too many attributes", file("a", with(func(m *Metadata) {
			m.Xattrs = slices.Repeat([]Xattr{{"u", make([]byte, MaxXattr-2)}}, maxAttributes/MaxXattr+1)
		}), 0)},
		{"the end of the root", e.EndDir()},
	} {
		if test.err == nil {
			t.Errorf("%s is accepted", test.name)
		}
	}
	if e.Offset() != at || e.Err() != nil {
		t.Fatalf("refusals wrote %d bytes: %v", e.Offset()-at, e.Err())
	}
	must(t, e.Symlink(long, linkMeta, long), e.Node("f", fifoMeta), e.Close())
	if got := names(t, NewDecoder(&out)); !slices.Equal(got, []string{long, "f"}) {
		t.Errorf("archive holds %.100q", got)
	}
}

// names returns the paths in an archive but the root's.
func names(t testing.TB, d *Decoder) (all []string) {
	t.Helper()
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Depth > 0 && e.Kind != DirEnd {
			all = append(all, e.Path())
		}
	}
}

func TestLimitsOfAttributesCanBeReached(t *testing.T) {
	m := *fileMeta
	m.Xattrs = []Xattr{{strings.Repeat("n", MaxXattrName), make([]byte, 64<<10-1)}, {"user.empty", nil}}
	m.FCaps = make([]byte, MaxXattr)
	m.UID, m.GID, m.Flags, m.ProjectID = math.MaxUint32, math.MaxUint32-1, math.MaxUint64, math.MaxUint64
	m.Mtime.Sec = math.MinInt64
	var out bytes.Buffer
	e := begin(t, &out)
	w, _, err := e.File("a", &m, 0)
	must(t, err)
	must(t, w.Close(), e.Close())
	d := NewDecoder(&out)
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	got, err := d.Next()
	if err != nil || got.UID != m.UID || got.GID != m.GID || got.Flags != m.Flags || got.ProjectID != m.ProjectID || got.Mtime != m.Mtime {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(got.Xattrs) != 2 || len(got.Xattrs[0].Value) != 64<<10-1 || got.Xattrs[1].Name != "user.empty" || len(got.FCaps) != MaxXattr {
		t.Errorf("attributes are %d and %d", len(got.Xattrs), len(got.FCaps))
	}
}

func TestAFileTakesItsSizeAndNoMore(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	w, _, err := e.File("a", fileMeta, 10)
	must(t, err)
	if _, err := w.Write(make([]byte, 11)); err == nil {
		t.Error("a file takes more than its size")
	}
	if err := e.BeginDir("d", dirMeta); err == nil {
		t.Error("a directory begins inside of a file")
	}
	if err := e.Close(); err == nil {
		t.Error("an archive ends inside of a file")
	}
	source := strings.NewReader("0123456789and more")
	if n, err := w.(io.ReaderFrom).ReadFrom(source); n != 10 || err != nil || source.Len() != 8 {
		t.Errorf("read %d bytes, %v, %d are left", n, err, source.Len())
	}
	must(t, w.Close())
	if _, err := w.Write([]byte("x")); err == nil || w.Close() == nil {
		t.Error("a closed file is written to, or closed again")
	}
	must(t, e.Close())
	if e.Close() == nil || e.BeginDir("d", dirMeta) == nil {
		t.Error("an archive goes on after its end")
	}
	d := NewDecoder(&out)
	for range 2 {
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(d.Content()); string(got) != "0123456789" || err != nil {
		t.Errorf("content %q, %v", got, err)
	}
}

func TestAFileThatIsTooShortBreaksTheArchive(t *testing.T) {
	e := begin(t, io.Discard)
	w, _, err := e.File("a", fileMeta, 10)
	must(t, err)
	if n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("012")); n != 3 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "7 bytes are missing") {
		t.Errorf("close: %v", err)
	}
	if e.Err() == nil || e.Close() == nil {
		t.Error("the archive goes on")
	}
}

func TestErrorsOfTheSourceDoNotBreakTheArchive(t *testing.T) {
	var out bytes.Buffer
	e := begin(t, &out)
	w, _, err := e.File("a", fileMeta, 5)
	must(t, err)
	source := io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(iotest.ErrTimeout))
	if n, err := w.(io.ReaderFrom).ReadFrom(source); n != 2 || !errors.Is(err, iotest.ErrTimeout) || e.Err() != nil {
		t.Errorf("read %d bytes, %v, %v", n, err, e.Err())
	}
	if _, err := w.Write(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	must(t, w.Close(), e.Close())
	if got := names(t, NewDecoder(&out)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("archive holds %q", got)
	}
}

func TestErrorsOfTheSinkBreakTheArchive(t *testing.T) {
	full := errors.New("full")
	sink := writerFunc(func(p []byte) (int, error) { return 0, full })
	e := begin(t, sink)
	w, _, err := e.File("a", fileMeta, 1<<30)
	must(t, err)
	n, err := w.(io.ReaderFrom).ReadFrom(zeros{})
	if !errors.Is(err, full) || n > 2*outputBuffer {
		t.Errorf("after %d bytes: %v", n, err)
	}
	for i, err := range []error{w.Close(), e.Err(), e.BeginDir("d", dirMeta), e.EndDir(), e.Close()} {
		if !errors.Is(err, full) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	short := begin(t, writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }))
	if err := short.Close(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a sink that takes less than it should: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestASourceWithoutProgressEnds(t *testing.T) {
	w, _, err := begin(t, io.Discard).File("a", fileMeta, 5)
	must(t, err)
	stuck := readerFunc(func([]byte) (int, error) { return 0, nil })
	if n, err := w.(io.ReaderFrom).ReadFrom(stuck); n != 0 || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLargeWritesAreNotCopied(t *testing.T) {
	var sizes []int
	e := begin(t, writerFunc(func(p []byte) (int, error) {
		sizes = append(sizes, len(p))
		return len(p), nil
	}))
	w, _, err := e.File("a", fileMeta, 9<<20)
	must(t, err)
	for _, n := range []int{4 << 20, 3 << 20} {
		if _, err := w.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.(io.ReaderFrom).ReadFrom(zeros{}); n != 2<<20 || err != nil {
		t.Fatal(n, err)
	}
	must(t, w.Close(), e.Close())
	if len(sizes) > 8 || !slices.Contains(sizes, 4<<20) || !slices.Contains(sizes, 3<<20) {
		t.Errorf("writes of %d bytes", sizes)
	}
}

func BenchmarkEncode(b *testing.B) {
	content := bytes.Repeat([]byte("x"), 10<<10)
	b.SetBytes(int64(1000 * len(content)))
	b.ReportAllocs()
	for b.Loop() {
		e := begin(b, io.Discard)
		for i := range 1000 {
			w, _, err := e.File(string(rune('a'+i%20))+"name", fileMeta, int64(len(content)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.(io.ReaderFrom).ReadFrom(bytes.NewReader(content)); err != nil {
				b.Fatal(err)
			}
			must(b, w.Close())
		}
		must(b, e.Close())
	}
}

func BenchmarkDecode(b *testing.B) {
	var out bytes.Buffer
	e := begin(b, &out)
	for i := range 1000 {
		addFile(b, e, string(rune('a'+i%20))+"name", strings.Repeat("x", 10<<10))
	}
	must(b, e.Close())
	b.SetBytes(int64(out.Len()))
	b.ReportAllocs()
	for b.Loop() {
		d := NewDecoder(bufioOnly{bytes.NewReader(out.Bytes())})
		for {
			e, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if e.Kind == File {
				if _, err := io.Copy(io.Discard, d.Content()); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

// bufioOnly hides that a reader can do more than read.
type bufioOnly struct{ io.Reader }
