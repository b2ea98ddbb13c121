package compare

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A thing is an entry of a small tree: a file with content, or a directory.
type thing struct {
	name, content string
	mode          uint32
	mtime         int64
	below         []thing
}

const (
	dir  = 0o040755
	file = 0o100644
)

// archive makes an archive of a root directory with the things in it.
func archive(t *testing.T, things ...thing) *pxar.Archive {
	t.Helper()
	var out bytes.Buffer
	e, err := pxar.NewEncoder(&out, &pxar.Metadata{Mode: dir})
	must(t, err)
	encode(t, e, things)
	must(t, e.Close())
	a, err := pxar.OpenArchive(bytes.NewReader(out.Bytes()), int64(out.Len()), pxar.Options{})
	must(t, err)
	return a
}

func encode(t *testing.T, e *pxar.Encoder, things []thing) {
	t.Helper()
	for _, x := range things {
		m := &pxar.Metadata{Mode: x.mode, Mtime: pxar.Timespec{Sec: x.mtime}}
		if x.mode == dir {
			must(t, e.BeginDir(x.name, m))
			encode(t, e, x.below)
			must(t, e.EndDir())
			continue
		}
		w, _, err := e.File(x.name, m, int64(len(x.content)))
		must(t, err)
		_, err = w.Write([]byte(x.content))
		must(t, errors.Join(err, w.Close()))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTrees(t *testing.T) {
	old := []thing{
		{name: "a", mode: dir, below: []thing{{name: "same", content: "x", mode: file}, {name: "touched", content: "x", mode: file, mtime: 1}}},
		{name: "b", content: "old", mode: file, mtime: 1},
		{name: "c", content: "12345", mode: file},
		{name: "d", content: "x", mode: file},
		{name: "e", mode: dir, below: []thing{{name: "inside", content: "x", mode: file}}},
		{name: "f", content: "abc", mode: file, mtime: 5},
	}
	now := []thing{
		{name: "a", mode: dir, below: []thing{{name: "added", content: "x", mode: file}, {name: "same", content: "x", mode: file}, {name: "touched", content: "x", mode: file, mtime: 2}}},
		{name: "b", content: "new", mode: file, mtime: 2},
		{name: "c", content: "1234", mode: file},
		{name: "d", mode: dir},
		{name: "f", content: "xyz", mode: file, mtime: 5},
	}
	shallow := []string{"content b", "content c", "type d", "removed e", "added a/added", "metadata a/touched"}
	for _, row := range []struct {
		what string
		deep bool
		want []string
	}{
		{"files of one size and time count as the same", false, shallow},
		{"unless the comparison is deep", true, append([]string{"content f"}, shallow...)},
	} {
		var got []string
		err := Trees(t.Context(), archive(t, old...), archive(t, now...), TreeOptions{Deep: row.deep}, func(c Change) error {
			got = append(got, string(c.Kind)+" "+c.Path)
			return nil
		})
		must(t, err)
		slices.Sort(got)
		slices.Sort(row.want)
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
	stop := errors.New("enough")
	if err := Trees(t.Context(), archive(t, old...), archive(t, now...), TreeOptions{}, func(Change) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the caller becomes %v", err)
	}
	if err := Trees(t.Context(), archive(t, old...), archive(t, old...), TreeOptions{Deep: true}, func(c Change) error { return errors.New(c.Path) }); err != nil {
		t.Errorf("a tree differs from itself: %v", err)
	}
}

// image makes an index of chunks of four bytes, one for each letter.
func image(t *testing.T, letters string, size int64) chunks.Index {
	t.Helper()
	b, err := chunks.NewFixedBuilder(size, 4096)
	must(t, err)
	for i, r := range letters {
		at := int64(i) * 4096
		must(t, b.Put(at, min(4096, size-at), chunks.Sum([]byte(string(r)))))
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(t, err)
	return x
}

func TestImages(t *testing.T) {
	const c = 4096
	for _, row := range []struct {
		what, a, b   string
		sizeA, sizeB int64
		want         []Range
	}{
		{"an image and itself", "abc", "abc", 3 * c, 3 * c, nil},
		{"one chunk", "abc", "axc", 3 * c, 3 * c, []Range{{c, 2 * c}}},
		{"neighbours are one range", "abcd", "axyd", 4 * c, 4 * c, []Range{{c, 3 * c}}},
		{"a longer image", "ab", "abc", 2 * c, 2*c + 9, []Range{{2 * c, 2*c + 9}}},
		{"a shorter image", "abc", "ab", 2*c + 9, 2 * c, []Range{{2 * c, 2*c + 9}}},
	} {
		got, err := Images(image(t, row.a, row.sizeA), image(t, row.b, row.sizeB))
		must(t, err)
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.what, got, row.want)
		}
	}
}
