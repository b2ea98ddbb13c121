package pxar

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// decoy returns an archive with a file whose content looks like the end of a
// directory that holds inner, named name.
func decoy(t *testing.T, name string, inner []byte) []byte {
	t.Helper()
	at := len(inner)
	table := item(itemGoodbye, goodbye.Hash(name), at, at, uint64(goodbye.TailMark), 56+headerSize+at, 16+48)
	var out bytes.Buffer
	e := begin(t, &out)
	addFile(t, e, "evil", string(inner)+string(table))
	must(t, e.Close())
	return out.Bytes()
}

func TestContentOfAFileGrantsNoRights(t *testing.T) {
	file := func(mode int, attributes ...[]byte) []byte {
		all := slices.Concat(name("su"), stat(modeRegular|mode), slices.Concat(attributes...))
		return append(all, item(itemPayload, "evil")...)
	}
	dir := slices.Concat(name("su"), stat(modeDir|0o755))
	dir = append(dir, item(itemGoodbye, uint64(goodbye.TailMark), len(dir)-19, 40)...)
	for _, test := range []struct {
		name  string
		inner []byte
	}{
		{"a program of its owner", file(0o4755)},
		{"a program of its group", file(0o2755)},
		{"a program with capabilities", file(0o755, item(itemFCaps, "x"))},
		{"a file with attributes", file(0o755, item(itemXattr, "trusted.a\x00b"))},
		{"a device", slices.Concat(name("su"), stat(modeBlock|0o666), item(itemDevice, 8, 0))},
		{"a hard link", slices.Concat(name("su"), item(itemHardlink, 100, "f\x00"))},
		{"a symbolic link", slices.Concat(name("su"), stat(modeSymlink|0o777), item(itemSymlink, "f\x00"))},
		{"a directory", dir},
	} {
		a := openBytes(t, decoy(t, "su", test.inner))
		if n, err := a.find("evil/su", false); err != nil {
			t.Fatalf("%s: the decoy is not one: %v, %v", test.name, n, err)
		}
		if n, err := a.Find("evil/su"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: found %+v, %v", test.name, n, err)
		}
		evil, err := a.Find("evil")
		must(t, err)
		if _, err := evil.Lookup("su"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: look up in a file: %v", test.name, err)
		}
	}
}

// tableOf returns an archive with entries and a table of the records.
func tableOf(entries []byte, records ...goodbye.Record) []byte {
	all := slices.Concat(stat(modeDir|0o755), entries)
	at := len(all)
	var content []any
	for _, r := range append(goodbye.SearchTree(records), goodbye.Record{Hash: goodbye.TailMark, Offset: uint64(at), Size: uint64(40 + 24*len(records))}) {
		content = append(content, r.Hash, r.Offset, r.Size)
	}
	return append(all, item(itemGoodbye, content...)...)
}

func fifo(s string) []byte { return slices.Concat(name(s), stat(modeFifo|0o644)) }

func TestNamesWithOneHashAreToldApart(t *testing.T) {
	entries := slices.Concat(fifo("aa"), fifo("bb"), fifo("aa"))
	size := uint64(len(entries) / 3)
	h := goodbye.Hash("aa")
	a := openBytes(t, tableOf(entries, goodbye.Record{Hash: h, Offset: 3 * size, Size: size},
		goodbye.Record{Hash: h, Offset: 2 * size, Size: size}, goodbye.Record{Hash: h, Offset: size, Size: size}))
	n, err := a.Find("aa")
	if err != nil || n.Position != Position(56+2*size) {
		t.Errorf("of two entries of one name %+v, %v is found, want the last", n, err)
	}
	if all, err := root(t, a).Children(); err != nil || len(all) != 2 || all[0].Position != n.Position || all[1].Name != "bb" {
		t.Errorf("children %v, %v", all, err)
	}
	other := openBytes(t, tableOf(fifo("bb"), goodbye.Record{Hash: h, Offset: size, Size: size}))
	if _, err := other.Find("aa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another name of the same hash: %v", err)
	}
}

func TestHostileTablesNeitherLoopNorEscape(t *testing.T) {
	dir := slices.Concat(name("d"), stat(modeDir), item(itemGoodbye, uint64(goodbye.TailMark), 56, 40))
	h, size := goodbye.Hash("d"), uint64(len(dir))
	for _, test := range []struct {
		name    string
		records []goodbye.Record
		says    string
	}{
		{"an entry in front of the root", []goodbye.Record{{Hash: h, Offset: size + 57, Size: size}}, "in front of it"},
		{"an entry that is the root", []goodbye.Record{{Hash: h, Offset: size + 56, Size: size}}, "in front of it"},
		{"an entry that is the table", []goodbye.Record{{Hash: h, Offset: 0, Size: size}}, "in front of it"},
		{"an entry in the middle of nowhere", []goodbye.Record{{Hash: h, Offset: 3, Size: 3}}, "ends early"},
		{"an entry without name", []goodbye.Record{{Hash: h, Offset: size - 18, Size: size - 18}}, "instead of name"},
		{"a directory beyond the table", []goodbye.Record{{Hash: h, Offset: size, Size: size + 1}}, "goes beyond"},
		{"a directory of 16 EiB", []goodbye.Record{{Hash: h, Offset: size, Size: 1<<64 - 1}}, "goes beyond"},
		{"two directories that are one", []goodbye.Record{{Hash: h, Offset: size, Size: size}, {Hash: h, Offset: size, Size: size}}, "ends early"},
	} {
		a := openBytes(t, tableOf(dir, test.records...))
		_, listed := root(t, a).Children()
		if !errors.Is(listed, ErrFormat) || !strings.Contains(fmt.Sprint(listed), test.says) {
			t.Errorf("%s: listing: %v, want %q", test.name, listed, test.says)
		}
		if _, err := a.Find("d/x"); err == nil {
			t.Errorf("%s: something is found", test.name)
		}
	}
}

func TestHardLinksLeadToFilesOnly(t *testing.T) {
	file := slices.Concat(name("f"), stat(modeRegular), item(itemPayload, "hello"))
	link := func(distance int, target string) []byte {
		return slices.Concat(name("l"), item(itemHardlink, distance, target+"\x00"))
	}
	for _, test := range []struct {
		name    string
		entries []byte
		at      int // of the link
		says    string
	}{
		{"a file", slices.Concat(file, link(len(file), "f")), len(file), ""},
		{"a file below a directory", slices.Concat(file, link(len(file), "sub/f")), len(file), ""},
		{"a file of another name", slices.Concat(file, link(len(file), "g")), len(file), `"f" is there`},
		{"a fifo", slices.Concat(fifo("p"), link(len(fifo("p")), "p")), len(fifo("p")), "to a fifo"},
		{"a link", slices.Concat(link(18, "f"), link(len(link(18, "f")), "l")), len(link(18, "f")), "to a hard link"},
		{"nowhere", slices.Concat(file, link(len(file)-1, "f")), len(file), "unknown"},
		{"the root's metadata", slices.Concat(file, link(len(file)+55, "f")), len(file), "unknown"},
	} {
		back := uint64(len(test.entries) - test.at)
		a := openBytes(t, tableOf(test.entries, goodbye.Record{Hash: goodbye.Hash("l"), Offset: back, Size: back}))
		n, err := a.Find("l")
		if err != nil || n.Kind != Hardlink {
			t.Fatalf("%s: %+v, %v", test.name, n, err)
		}
		content, err := n.Content()
		if test.says == "" {
			if err != nil || content.Size() != 5 {
				t.Errorf("%s: %v", test.name, err)
			} else if f, err := n.Resolve(); err != nil || f.Path() != n.Target || f.Depth != strings.Count(n.Target, "/")+1 {
				t.Errorf("%s: leads to %+v, %v", test.name, f, err)
			}
		} else if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
	}
}
