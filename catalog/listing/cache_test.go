package listing

import (
	"encoding/binary"
	"reflect"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

func ptr(n uint64) *uint64 { return &n }

// sample is a group with everything that an Info can have.
func sample(id string) *Group {
	g := naming.Group{Type: naming.VM, ID: id}
	return &Group{
		Namespace: "a/b", Group: g, Stamp: Stamp{Modified: -5, Changed: 1 << 62, Inode: 1<<64 - 1},
		Infos: []Info{
			{
				Namespace: "a/b", Type: naming.VM, ID: id, Time: 1_700_000_000, Size: ptr(1<<64 - 1), Protected: true,
				Comment: "<täglich> \x00\xff\"", Fingerprint: "0e:ab", Verification: &manifest.VerifyState{State: "ok", UPID: "UPID:x"},
				Stats: &manifest.UploadStats{Count: 1, Size: 2, CompressedSize: 3, Duplicates: 4},
				Files: []File{{"disk.img.fidx", manifest.Encrypt, ptr(0)}, {Name: "client.log.blob"}},
			},
			{Namespace: "a/b", Type: naming.VM, ID: id, Time: 1, Size: ptr(0), Files: []File{}},
		},
	}
}

const file = "/s/listing"

// saved writes groups to a cache as if they had been read long ago.
func saved(t *testing.T, fsys disk.FS, groups ...*Group) {
	t.Helper()
	for _, g := range groups {
		g.Read = time.Unix(0, g.Stamp.Changed).Add(racyAge + time.Hour)
	}
	Load(fsys, file).Save(fsys, file, groups)
}

func newFS(t *testing.T) *disktest.Mem {
	t.Helper()
	mem := disktest.NewMem()
	for _, dir := range []string{"/s/ns/a/ns/b/vm/1", "/s/ns/a/ns/b/vm/2", "/s/ns/a/ns/b/vm/3"} {
		if err := disk.MkdirAll(mem, dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return mem
}

func TestCacheKnowsWhatWasSaved(t *testing.T) {
	mem, one := newFS(t), sample("1")
	saved(t, mem, one, &Group{Group: naming.Group{Type: naming.CT, ID: "empty"}, Stamp: Stamp{Modified: 1}})
	c := Load(mem, file)
	got := &Group{Namespace: one.Namespace, Group: one.Group, Stamp: one.Stamp}
	if !c.Find(got) || !reflect.DeepEqual(got.Infos, one.Infos) {
		t.Errorf("found %+v,\nwant  %+v", got.Infos, one.Infos)
	}
	for what, change := range map[string]func(*Group){
		"another time":        func(g *Group) { g.Stamp.Modified++ },
		"another change time": func(g *Group) { g.Stamp.Changed++ },
		"another inode":       func(g *Group) { g.Stamp.Inode-- },
		"another ID":          func(g *Group) { g.Group.ID = "2" },
		"another namespace":   func(g *Group) { g.Namespace = "a" },
	} {
		g := &Group{Namespace: one.Namespace, Group: one.Group, Stamp: one.Stamp}
		if change(g); c.Find(g) || g.Infos != nil {
			t.Errorf("a group with %s was found", what)
		}
	}
}

func TestCacheForgetsWhatItCannotBeSureOf(t *testing.T) {
	read := time.Unix(100, 0)
	at := func(g *Group, age time.Duration) *Group {
		g.Read, g.Stamp = read, Stamp{Modified: read.Add(-age).UnixNano()}
		return g
	}
	unfinished := at(sample("1"), time.Hour)
	unfinished.Infos[1].Size = nil
	later := at(sample("1"), -time.Hour)
	touched := at(sample("1"), time.Hour)
	touched.Stamp.Changed = read.UnixNano()
	cached := at(sample("1"), time.Hour)
	cached.Read = time.Time{}
	for what, row := range map[string]struct {
		g    *Group
		want bool
	}{
		"a group that was quiet":                         {at(sample("1"), time.Hour), true},
		"a group that changed in the same moment":        {at(sample("1"), 0), false},
		"a group that changed in the same tick":          {at(sample("1"), racyAge), false},
		"a group with a snapshot in the making":          {unfinished, false},
		"a group that changes in the future":             {later, false},
		"a group whose old time was set just now":        {touched, false},
		"a group that was not read, and is not known":    {cached, false},
		"a group that changed a little before that tick": {at(sample("1"), racyAge+1), true},
	} {
		mem := newFS(t)
		Load(mem, file).Save(mem, file, []*Group{row.g})
		g := &Group{Namespace: row.g.Namespace, Group: row.g.Group, Stamp: row.g.Stamp}
		if got := Load(mem, file).Find(g); got != row.want {
			t.Errorf("%s is remembered: %v", what, got)
		}
	}
}

func TestCacheKeepsGroupsThatWereNotAskedFor(t *testing.T) {
	mem := newFS(t)
	saved(t, mem, sample("1"), sample("2"), sample("gone"))
	saved(t, mem, sample("3"))
	c := Load(mem, file)
	for id, want := range map[string]bool{"1": true, "2": true, "3": true, "gone": false} {
		g := sample(id)
		if got := c.Find(g); got != want {
			t.Errorf("group %s is known: %v", id, got)
		}
	}
	asked := sample("1") // changed since, so that what is known of it is no longer of use
	asked.Stamp.Inode = 7
	saved(t, mem, sample("3"))
	c = Load(mem, file)
	c.Save(mem, file, []*Group{asked, func() *Group { g := sample("2"); g.Read = time.Unix(1<<40, 0); return g }()})
	if g := sample("1"); Load(mem, file).Find(g) {
		t.Error("the cache still has a state of a group that it was told is past")
	}
}

func TestFewNewsAreNotWorthAFile(t *testing.T) {
	mem := newFS(t)
	var all []*Group
	for range 200 {
		all = append(all, &Group{Group: naming.Group{Type: naming.VM, ID: "x"}})
	}
	for i, want := range []int{8: 0, 9: 1} { // a twentieth of 200 is 10
		all[i] = sample("1")
		all[i].Read = time.Unix(1<<40, 0)
		Load(mem, file).Save(mem, file, all)
		if got := len(mem.Names()); got != want {
			t.Errorf("after %d news there are %d files", i+1, got)
		}
	}
}

// A cache that was changed by whatever means is empty or what it was.
func TestDamagedCacheIsEmpty(t *testing.T) {
	mem := newFS(t)
	saved(t, mem, sample("1"))
	whole := mem.Bytes(file)
	for n := range len(whole) {
		if len(parse(whole[:n]).groups) != 0 {
			t.Errorf("a cache cut to %d bytes has groups", n)
		}
		flipped := append([]byte{}, whole...)
		flipped[n] ^= 0x10
		if len(parse(flipped).groups) != 0 {
			t.Errorf("a cache with byte %d changed has groups", n)
		}
	}
	if len(Load(mem, "/s/none").groups) != 0 {
		t.Error("a cache that is not there has groups")
	}
}

// seal gives content a head that fits, so that a fuzzer gets past it.
func seal(body []byte) []byte {
	b := append(make([]byte, headSize), body...)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[8:], xxhash.Sum64(body))
	return b
}

// Whatever a cache holds, reading it neither panics nor reserves memory out of
// proportion, and what is found is written again as it was.
func FuzzCache(f *testing.F) {
	one := sample("1")
	f.Add(appendText(nil, string(appendGroup(nil, one.key(), one))))
	f.Add([]byte{})
	f.Add(appendText(nil, "\x01x\x00\x00\x00\xff\xff\xff\xff\x0f"))
	f.Add(appendText(nil, "\x01x\x00\x00\x00\x01\x02\x00\x00\x00\xff\xff\x03"))
	f.Fuzz(func(t *testing.T, body []byte) {
		parse(body) // without a head
		c := parse(seal(body))
		for key, e := range c.groups {
			d := decoder{s: e.body}
			infos := d.infos("a/b", naming.Group{Type: naming.VM, ID: "1"})
			if len(infos) > len(body)/leastInfo {
				t.Fatalf("%d descriptions from %d bytes", len(infos), len(body))
			}
			files := 0
			for i := range infos {
				files += len(infos[i].Files)
			}
			if files > len(body)/leastFile {
				t.Fatalf("%d files from %d bytes", files, len(body))
			}
			if d.bad || d.s != "" {
				continue
			}
			again := decoder{s: string(appendGroup(nil, key, &Group{Stamp: e.stamp, Infos: infos}))}
			again.text()
			again.int()
			again.int()
			again.uint()
			if got := again.infos("a/b", naming.Group{Type: naming.VM, ID: "1"}); !reflect.DeepEqual(got, infos) {
				t.Fatalf("read again: %+v,\nwant       %+v", got, infos)
			}
		}
	})
}
