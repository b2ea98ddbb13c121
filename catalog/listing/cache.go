package listing

import (
	"encoding/binary"
	"path"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Cache is the file of descriptions as it was read.
//
//	0   8  "HFLIST02"
//	8   8  xxhash64 of the rest, little endian
//	16     groups; see appendGroup
//
// Numbers are varints, texts have their length before them. The file is
// derived data: one that is damaged or lost is made again. A group that had
// just changed when it was read is left out, for it may have changed again
// within the same tick of the file system's clock.
type Cache struct {
	groups map[string]entry // by path below the datastore
}

const (
	magic    = "HFLIST02"
	headSize = 16
	maxFile  = 1 << 30 // bytes
)

type entry struct {
	stamp Stamp
	raw   string // as appendGroup made it
	body  string // of raw, what follows the stamp
}

// A Group is what is known of the snapshots of one group. Owners are not part
// of it: they are too easily changed by hand.
type Group struct {
	Namespace naming.Namespace
	Group     naming.Group
	Stamp     Stamp
	Read      time.Time // when Infos were read, after Stamp was; zero: they are from the cache
	Infos     []Info    // newest first
}

func (g *Group) key() string { return path.Join(g.Namespace.Path(), g.Group.Path()) }

// fresh reports whether the group was read and may be remembered. One with a
// snapshot in the making may not: its files come without a change of the stamp.
func (g *Group) fresh() bool {
	return !g.Read.IsZero() && g.Stamp.settled(g.Read) &&
		!slices.ContainsFunc(g.Infos, func(i Info) bool { return !i.Finished() })
}

// Load reads a cache; one that is of no use is empty.
func Load(fsys disk.FS, name string) *Cache {
	b, err := disk.ReadFile(fsys, name, maxFile)
	if err != nil {
		return &Cache{}
	}
	return parse(b)
}

func parse(b []byte) *Cache {
	c := &Cache{groups: map[string]entry{}}
	if len(b) < headSize || string(b[:8]) != magic || binary.LittleEndian.Uint64(b[8:]) != xxhash.Sum64(b[headSize:]) {
		return c
	}
	for d := (decoder{s: string(b[headSize:])}); d.s != ""; {
		raw := d.text()
		group := decoder{s: raw}
		key := group.text()
		stamp := Stamp{group.int(), group.int(), group.uint()}
		if d.bad || group.bad {
			break
		}
		c.groups[key] = entry{stamp, raw, group.s}
	}
	return c
}

// Find fills in what the cache knows of a group with this stamp, and reports
// whether it does.
func (c *Cache) Find(g *Group) bool {
	e, ok := c.groups[g.key()]
	if !ok || e.stamp != g.Stamp {
		return false
	}
	d := decoder{s: e.body}
	infos := d.infos(g.Namespace, g.Group)
	if d.bad || d.s != "" {
		return false
	}
	g.Infos = infos
	return true
}

// Save writes the cache anew if enough of groups, all that were asked for, is
// news to it. Of other groups it keeps what it knows if there still is one of
// that path. It is no harm if that fails: the directory may not be ours to
// write in.
func (c *Cache) Save(fsys disk.FS, name string, groups []*Group) {
	fresh := 0
	for _, g := range groups {
		if g.fresh() {
			fresh++
		}
	}
	if fresh == 0 || fresh*20 < len(groups) && fresh < 50 {
		return
	}
	out := make([]byte, headSize, headSize+1<<16)
	asked := make(map[string]bool, len(groups))
	var scratch []byte
	for _, g := range groups {
		key := g.key()
		asked[key] = true
		switch e, ok := c.groups[key]; {
		case g.fresh():
			scratch = appendGroup(scratch[:0], key, g)
			out = appendText(out, string(scratch))
		case g.Read.IsZero() && ok && e.stamp == g.Stamp:
			out = appendText(out, e.raw)
		}
	}
	for key, e := range c.groups {
		if !asked[key] && exists(fsys, path.Join(path.Dir(name), key)) {
			out = appendText(out, e.raw)
		}
	}
	copy(out, magic)
	binary.LittleEndian.PutUint64(out[8:], xxhash.Sum64(out[headSize:]))
	_ = disk.WriteFileAtomic(fsys, name, out, 0o644) // the next time is as good
}

func exists(fsys disk.FS, name string) bool {
	_, err := fsys.Stat(name)
	return err == nil
}
