package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// names returns what a list has, as text.
func names(list []Info) (all []string) {
	for _, i := range list {
		all = append(all, name(i.Namespace, i.Snapshot()))
	}
	return all
}

func TestListSeesOnlyWhatIsOurs(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "vm/100"), 0o755))
	s := snap("vm/100", 1)
	must(t, growSnapshot(dir, s)) // a group without an owner
	for _, foreign := range []string{
		"vm/.hidden/2026-01-01T00:00:00Z/x.fidx", "vm/-x/2026-01-01T00:00:00Z/x.fidx", "vm/a b/2026-01-01T00:00:00Z/x.fidx",
		"qemu/100/2026-01-01T00:00:00Z/x.fidx", "vm/100/2026-01-01T00:00:00Z.bak/x.fidx", "vm/100/2026-1-1T00:00:00Z/x.fidx",
		"vm/100/2026-01-01T00:00:00+00:00/x.fidx", "vm/100/1969-12-31T23:59:59Z/x.fidx", "vm/100/.x.tmp", "vm/file", "ct",
		"vm/100/2026-01-05T00:00:00Z", "ns/a/ns", "ns/.hidden/vm/1/2026-01-01T00:00:00Z/x.fidx", "ns/file",
		s.Path() + "/notes.txt", s.Path() + "/x.fidx.tmp_fidx", s.Path() + "/.hidden.fidx",
	} {
		write(t, dir, foreign, []byte("x"))
	}
	must(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "vm", "101")))
	must(t, os.Symlink(filepath.Join(dir, "vm", "file"), filepath.Join(dir, "vm", "102")))
	must(t, os.Symlink(filepath.Join(dir, "vm", "100"), filepath.Join(dir, "vm", "103")))
	tree := Tree{FS: disk.OS{}, Dir: dir}
	list, err := tree.List(t.Context(), ListOptions{Depth: -1})
	must(t, err)
	want := []string{"vm/100/2026-01-02T12:00:00Z", "vm/103/2026-01-02T12:00:00Z"}
	if got := names(list); !slices.Equal(got, want) {
		t.Fatalf("there are %q, want %q", got, want)
	}
	if i := list[0]; i.Owner != "" || !i.Finished() || len(i.Files) != 4 {
		t.Errorf("a snapshot of a group without owner is %s", i.AppendJSON(nil))
	}
	if list[1].Finished() {
		t.Error("a snapshot whose manifest is that of another guest counts as finished")
	}
	spaces, err := tree.Namespaces(t.Context(), "", -1)
	if err != nil || !slices.Equal(spaces, []Namespace{"", "a"}) {
		t.Errorf("namespaces are %q, %v", spaces, err)
	}
}

func TestListOptions(t *testing.T) {
	d, _, _ := newStore(t)
	must(t, errors.Join(d.CreateNamespace("a"), d.CreateNamespace("a/b"), d.CreateNamespace("a-b"), d.CreateNamespace("c")))
	for _, ns := range []Namespace{"", "a", "a/b", "a-b"} {
		mustBackUp(t, d, ns, snap("vm/100", 1))
		mustBackUp(t, d, ns, snap("ct/5", 1))
	}
	mustBackUp(t, d, "", snap("vm/100", 2))
	mustBackUp(t, d, "", snap("vm/20", 2))
	for _, row := range []struct {
		what, filters string
		ns            Namespace
		depth         int
		want          string // type and ID, "!" before those of a second day
	}{
		{"one namespace, by type and number, newest first", "", "", 0, "ct/5 !vm/20 !vm/100 vm/100"},
		{"one level below", "", "", 1, "ct/5 !vm/20 !vm/100 vm/100 a:ct/5 a:vm/100 a-b:ct/5 a-b:vm/100"},
		{"all below another", "", "a", -1, "a:ct/5 a:vm/100 a/b:ct/5 a/b:vm/100"},
		{"an empty one", "", "c", -1, ""},
		{"only containers", "type:ct", "", 0, "ct/5"},
		{"all but one guest", "exclude:group:vm/100", "", 0, "ct/5 !vm/20"},
	} {
		opt := ListOptions{Namespace: row.ns, Depth: row.depth}
		if row.filters != "" {
			must(t, opt.Filters.Set(row.filters))
		}
		list, err := d.List(t.Context(), opt)
		must(t, err)
		var got []string
		for _, i := range list {
			n := name(i.Namespace, i.Snapshot().Group)
			if i.Time == snap("vm/1", 2).Time {
				n = "!" + n
			}
			got = append(got, n)
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
	_, err := d.List(t.Context(), ListOptions{Namespace: "none"})
	wants(t, "list a namespace that is not there", err, fs.ErrNotExist)
}

// What a list says of one snapshot, from the first file to the last note.
func TestInfoGrowsWithTheSnapshot(t *testing.T) {
	d, mem, _ := newStore(t)
	s := snap("vm/100", 1)
	w, err := d.Begin(t.Context(), "", s, alice)
	must(t, err)
	m, err := fill(t.Context(), w, s, 1, 2)
	must(t, err)
	look := func(what, want string) {
		t.Helper()
		i, err := d.Describe("", s)
		must(t, err)
		if got := string(i.AppendJSON(nil)); got != want {
			t.Errorf("%s it is\n%s, want\n%s", what, got, want)
		}
	}
	const head = `{"backup-type":"vm","backup-id":"100","backup-time":1767355200,`
	look("in the making", head+`"protected":false,"files":[{"filename":"guest.conf.blob"},{"filename":"root.pxar.didx"}]}`)
	must(t, w.Finish(t.Context(), m))
	files := func() string {
		b := mem.Bytes(path.Join(d.snapDir("", s), manifestName))
		x, conf := m.Files[0].Size, m.Files[1].Size
		return fmt.Sprintf(`"files":[{"filename":"root.pxar.didx","crypt-mode":"none","size":%d},{"filename":"guest.conf.blob","crypt-mode":"none","size":%d},`+
			`{"filename":"index.json.blob","crypt-mode":"none","size":%d}`, x, conf, len(b))
	}
	size := func() string {
		return fmt.Sprintf(`"size":%d,`, m.Files[0].Size+m.Files[1].Size+uint64(len(mem.Bytes(path.Join(d.snapDir("", s), manifestName)))))
	}
	look("finished", head+size()+`"protected":false,`+files()+`]}`)
	must(t, d.SetNotes("", s, "one\ntwo"))
	must(t, d.SetProtected("", s, true))
	must(t, d.AddLog("", s, chunktest.Encode([]byte("log"), chunks.EncodeOptions{}).Blob))
	look("with notes, protection and a log", head+size()+`"protected":true,"comment":"one",`+files()+`,{"filename":"client.log.blob"}]}`)
	mem.FlipBit(path.Join(d.snapDir("", s), manifestName), 20)
	look("with a damaged manifest", head+`"protected":true,"files":[{"filename":"client.log.blob"},{"filename":"guest.conf.blob"},{"filename":"index.json.blob"},{"filename":"root.pxar.didx"}]}`)
}

func TestUsageCountsWhatLives(t *testing.T) {
	d, _, _ := newStore(t)
	mustBackUp(t, d, "", snap("vm/1", 1), 1, 2, 3)
	mustBackUp(t, d, "", snap("vm/2", 1), 2, 3, 4)
	before, err := d.Usage(t.Context())
	must(t, err)
	stored := int64(0)
	for _, seed := range []uint64{1, 2, 3, 4} {
		stored += int64(len(chunk(seed).Blob))
	}
	if before.Groups != 2 || before.Snapshots != 2 || before.Chunks != 4 || before.StoredBytes < stored || before.StoredBytes > stored+4*8192 {
		t.Errorf("usage is %+v; chunks have %d bytes", before, stored)
	}
	if want := float64(before.LogicalBytes) / float64(before.StoredBytes); before.Factor != want {
		t.Errorf("factor is %v, want %v", before.Factor, want)
	}
	must(t, d.Forget(t.Context(), "", snap("vm/1", 1)))
	_, err = d.EmptyTrash(t.Context(), true)
	must(t, err)
	_, err = d.Collect(t.Context(), gc.Options{})
	must(t, err)
	after, err := d.Usage(t.Context())
	must(t, err)
	if after.Groups != 1 || after.Snapshots != 1 || after.Chunks != 3 || after.StoredBytes >= before.StoredBytes {
		t.Errorf("usage is %+v after a collection, was %+v", after, before)
	}
}
