package pcat1

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// walk lists a catalog in the order of its archive.
func walk(t testing.TB, c *Reader, dir Entry, path string, fn func(path string, e Entry)) {
	t.Helper()
	all, err := c.Children(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		fn(path+"/"+e.Name, e)
		if e.IsDir() {
			walk(t, c, e, path+"/"+e.Name, fn)
		}
	}
}

func open(t testing.TB, data []byte) *Reader {
	t.Helper()
	c, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rewrite writes what is in dir of c again.
func rewrite(t testing.TB, w *Writer, c *Reader, dir Entry) {
	t.Helper()
	all, err := c.Children(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		switch e.Type {
		case Dir:
			err = w.BeginDir(e.Name)
			rewrite(t, w, c, e)
			err = errors.Join(err, w.EndDir())
		case File:
			err = w.File(e.Name, e.Size, e.Mtime)
		default:
			err = w.Add(e.Name, e.Type)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyOf(t testing.TB, c *Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, w, c, c.Root())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// latin1 turns the code points of s, one for each byte, back into bytes.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func TestGoldenCatalogsAreReadAndWrittenAsTheyAre(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcat1")
	if err != nil || len(files) < 9 {
		t.Fatalf("golden catalogs: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		listing, err := os.ReadFile(strings.TrimSuffix(file, ".pcat1") + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		type line struct {
			Type, Path string
			Size       uint64
			Mtime      int64
		}
		var want, got []line
		for text := range bytes.Lines(listing) {
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatal(err)
			}
			l.Path = latin1(l.Path)
			want = append(want, l)
		}
		c := open(t, data)
		walk(t, c, c.Root(), "", func(path string, e Entry) {
			got = append(got, line{string(rune(e.Type)), path, e.Size, e.Mtime})
			if found, err := c.Find(path); err != nil || found != e {
				t.Errorf("%s: find %s: %+v, %v, want %+v", file, path, found, err, e)
			}
		})
		if !slices.Equal(got, want) {
			t.Errorf("%s holds\n%v, want\n%v", file, got, want)
		}
		if again := copyOf(t, c); !bytes.Equal(again, data) {
			t.Errorf("%s written again is\n%x, want\n%x", file, again, data)
		}
	}
}

// vector is the one of the protocol notes.
const vector = "91fd60f9c46758d5 06 01 66 01 61 05 01 12 01 64 0e 726f6f742e707861722e64696478 07 0f00000000000000"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectorOfTheProtocolNotes(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err == nil {
		err = errors.Join(w.BeginDir("root.pxar.didx"), w.File("a", 5, 1), w.EndDir(), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, vector); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("wrote %x, want %x", out.Bytes(), want)
	}
}

func TestNumbersKeepTheirValue(t *testing.T) {
	for _, test := range []struct {
		v     int64
		bytes string
	}{
		{0, "00"}, {1, "01"}, {127, "7f"}, {128, "8001"}, {-1, "8100"}, {-127, "ff00"}, {-128, "808100"},
		{-86400, "80a38500"}, {math.MaxInt64, "ffffffffffffffff7f"}, {math.MinInt64, "8080808080808080808100"},
		{-math.MaxInt64, "ffffffffffffffffff00"},
	} {
		if got := hex.EncodeToString(appendSvarint(nil, test.v)); got != test.bytes {
			t.Errorf("%d is %s, want %s", test.v, got, test.bytes)
		}
		if got, err := readSvarint(bytes.NewReader(unhex(t, test.bytes))); got != test.v || err != nil {
			t.Errorf("%s is %d, %v, want %d", test.bytes, got, err, test.v)
		}
	}
	for _, v := range []uint64{0, 1, 127, 128, 1 << 32, math.MaxUint64} {
		b := appendVarint(nil, v)
		if got, err := readVarint(bytes.NewReader(b)); got != v || err != nil || varintLen(v) != uint64(len(b)) {
			t.Errorf("%d came back as %d, %v (%d bytes, foreseen %d)", v, got, err, len(b), varintLen(v))
		}
	}
	for _, bad := range []string{"", "80", "ffffffffffffffffff02", "8080808080808080808080", "ffffffffffffffffff01", "8000", "8180808080808080808100"} {
		if v, err := readSvarint(bytes.NewReader(unhex(t, bad))); err == nil {
			t.Errorf("signed number %s is taken for %d", bad, v)
		}
	}
	for _, bad := range []string{"", "80", "ffffffffffffffffff02", "8080808080808080808000"} {
		if v, err := readVarint(bytes.NewReader(unhex(t, bad))); err == nil {
			t.Errorf("number %s is taken for %d", bad, v)
		}
	}
}

func TestBadCatalogsAreRefused(t *testing.T) {
	for _, test := range []struct{ name, hex, says string }{
		{"nothing", "", "only 0 bytes"},
		{"another magic", "91fd60f9c46758d6 02 00 0800000000000000", "begins with"},
		{"the root's table in the magic", "91fd60f9c46758d5 01 00 0700000000000000", "should be at 7"},
		{"the root's table at the end", "91fd60f9c46758d5 01 00 0a00000000000000", "should be at 10"},
		{"a table beyond the end", "91fd60f9c46758d5 02 00 0800000000000000", "goes beyond"},
		{"a table without a count", "91fd60f9c46758d5 00 0800000000000000", "EOF"},
		{"a length without end", "91fd60f9c46758d5 8080 0800000000000000", "length of a table"},
		{"more entries than bytes", "91fd60f9c46758d5 01 01 0800000000000000", "EOF"},
		{"bytes behind the entries", "91fd60f9c46758d5 02 0000 0800000000000000", "behind the entries"},
		{"an unknown type", "91fd60f9c46758d5 04 01 78 0161 0800000000000000", "unknown type"},
		{"no name", "91fd60f9c46758d5 03 01 6c 00 0800000000000000", "empty"},
		{"a name that leads up", "91fd60f9c46758d5 05 01 6c 02 2e2e 0800000000000000", `".."`},
		{"a name with a slash", "91fd60f9c46758d5 05 01 6c 02 612f 0800000000000000", `"a/"`},
		{"a name that is too long", "91fd60f9c46758d5 05 01 6c 8020 61 0800000000000000", "4096 bytes"},
		{"a table that is its own", "91fd60f9c46758d5 05 01 64 0161 00 0800000000000000", "0 bytes in front"},
		{"a table in front of the catalog", "91fd60f9c46758d5 05 01 64 0161 01 0800000000000000", "1 bytes in front"},
		{"two directories with one table", "91fd60f9c46758d5 0100 09 02 64 0161 02 64 0162 02 0a00000000000000", "another's"},
	} {
		data := unhex(t, test.hex)
		c, err := Open(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			_, err = c.Children(c.Root())
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
	}
}

func TestErrorsOfTheReaderAreNotOfTheFormat(t *testing.T) {
	data := unhex(t, vector)
	bad := &failing{data: data}
	c, err := Open(bad, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	bad.err = iotest.ErrTimeout
	if _, err := c.Find("root.pxar.didx"); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrFormat) {
		t.Errorf("error %v, want the reader's own", err)
	}
}

type failing struct {
	data []byte
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return bytes.NewReader(f.data).ReadAt(p, off)
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	c := open(t, unhex(t, vector))
	for _, path := range []string{"other", "root.pxar.didx/b", "root.pxar.didx/a/b"} {
		if _, err := c.Find(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("find %q: %v", path, err)
		}
	}
	if root, err := c.Find("/"); err != nil || root != c.Root() {
		t.Errorf("root is %+v, %v", root, err)
	}
}

func TestWriterRefusesWhatCannotBe(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", maxName)
	for _, test := range []struct {
		name string
		err  error
	}{
		{"a name with NUL", w.Add("a\x00", Fifo)},
		{"a name that is too long", w.File(long+"n", 0, 0)},
		{"the directory itself", w.BeginDir(".")},
		{"a directory without end", w.Add("d", Dir)},
		{"an unknown type", w.Add("x", 'x')},
		{"the end of the root", w.EndDir()},
	} {
		if test.err == nil {
			t.Errorf("%s is accepted", test.name)
		}
	}
	if err := errors.Join(w.File(long, math.MaxUint64, math.MinInt64), w.BeginDir("d")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a catalog with an open directory is closed")
	}
	if err := errors.Join(w.EndDir(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if w.Close() == nil || w.File("a", 0, 0) == nil || w.EndDir() == nil {
		t.Error("a catalog goes on after its end")
	}
	c := open(t, out.Bytes())
	all, err := c.Children(c.Root())
	if err != nil || len(all) != 2 || all[0].Size != math.MaxUint64 || all[0].Mtime != math.MinInt64 || all[0].Name != long {
		t.Errorf("root holds %d entries, %v", len(all), err)
	}
}

func TestErrorsOfTheSinkStay(t *testing.T) {
	full := errors.New("full")
	w, err := NewWriter(writerFunc(func([]byte) (int, error) { return 0, full }))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("close: %v", err)
	}
	if err := w.File("a", 0, 0); !errors.Is(err, full) {
		t.Errorf("after it: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A catalog that can be listed as a whole says the same after it was written
// again. Any other ends in an error, not in a loop.
func FuzzCatalog(f *testing.F) {
	f.Add(unhex(f, vector))
	files, _ := filepath.Glob("testdata/*.pcat1")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list := func(c *Reader) (all []string, err error) {
			todo := []Entry{c.Root()}
			for len(todo) > 0 && err == nil {
				var some []Entry
				some, err = c.Children(todo[0])
				todo = todo[1:]
				for _, e := range some {
					all = append(all, fmt.Sprint(e.Name, e.Type, e.Size, e.Mtime))
					if e.IsDir() {
						todo = append(todo, e)
					}
				}
			}
			if len(all) > len(data) {
				t.Fatalf("%d entries in %d bytes", len(all), len(data))
			}
			return all, err
		}
		c, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		want, err := list(c)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		got, err := list(open(t, copyOf(t, c)))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("written again: %v, %v, want %v", got, err, want)
		}
	})
}
