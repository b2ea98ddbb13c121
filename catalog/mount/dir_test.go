//go:build linux && !386 && !arm && !mips && !mipsle

package mount

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// readAll lists an open directory as the kernel does, page by page.
func readAll(t *testing.T, f *fileSystem, handle uint64) (names []string) {
	t.Helper()
	var off uint64
	for {
		list := fuse.NewDirEntryList(make([]byte, 4096), off)
		if status := f.ReadDirPlus(nil, &fuse.ReadIn{Fh: handle, Offset: off}, list); !status.Ok() {
			t.Fatalf("at %d: %v", off, status)
		}
		entries, _, err := fuse.ParseDirLookupEntries(list.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return names
		}
		for _, e := range entries {
			names, off = append(names, e.Name), e.Off
		}
	}
}

func TestAListingReadsEachEntryOnceAndRemembersFew(t *testing.T) {
	const count = maxPlus + 2000
	items := make([]item, 0, count)
	for i := range count {
		items = append(items, item{path: fmt.Sprintf("file-%06d", i), mode: typeFile | 0o644})
	}
	raw := build(t, items)
	f, err := newFileSystem(t.Context(), Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, bytes.NewReader(raw), len(raw))}}}, Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var out fuse.OpenOut
	if status := f.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: rootInode}}, &out); !status.Ok() {
		t.Fatal(status)
	}
	l, pulled := f.handles.get(out.Fh).dir, 0
	all := l.entries
	l.entries = func(yield func(entry) bool) {
		all(func(e entry) bool { pulled++; return yield(e) })
	}
	first := readAll(t, f, out.Fh)
	if len(first) != count+2 || pulled != count+2 {
		t.Errorf("%d entries, %d read from the archive; want %d of both", len(first), pulled, count+2)
	}
	if known := len(f.inodes.known); known > maxPlus {
		t.Errorf("%d inodes are remembered, want at most %d", known, maxPlus)
	}
	if again := readAll(t, f, out.Fh); !slices.Equal(first, again) { // rewinddir(3)
		t.Errorf("the second time there are %d entries", len(again))
	}
	for id, k := range f.inodes.known {
		f.Forget(id, k.lookups)
	}
	if len(f.inodes.known) != 1 {
		t.Errorf("%d inodes are known after the kernel forgot all but the root", len(f.inodes.known))
	}
}
