package pxar

import (
	"encoding/binary"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/goodbye"
)

// A composer makes an archive of bytes that a fuzzer chose: they say which
// items follow each other and what is in them, while sizes and tables fit for
// the most part. Bytes alone would hardly ever hit the type of an item.
type composer struct {
	script []byte
	out    []byte
	dirs   []composedDir
	name   int // where the last name begins
}

type composedDir struct {
	at      int // of the name
	start   int
	records []goodbye.Record
}

func compose(script []byte) []byte {
	c := composer{script: script, out: stat(modeDir | 0o755), dirs: make([]composedDir, 1)}
	for len(c.script) > 0 && len(c.dirs) > 0 && len(c.out) < 64<<10 {
		c.step()
	}
	for len(c.dirs) > 0 {
		c.table()
	}
	return c.out
}

// take returns the next n bytes of the script, and zeros behind its end.
func (c *composer) take(n int) []byte {
	b := make([]byte, n)
	c.script = c.script[copy(b, c.script):]
	return b
}

func (c *composer) number() int {
	b := c.take(2)
	return int(int16(binary.LittleEndian.Uint16(b)))
}

func (c *composer) put(typ itemType, parts ...any) { c.out = append(c.out, item(typ, parts...)...) }

func (c *composer) step() {
	op := c.take(1)[0]
	n := int(op >> 4)
	switch op % 16 {
	case 0, 1:
		c.begin(append(c.take(n), 'n', byte('a'+len(c.dirs))))
	case 2:
		c.begin([]byte{'d', byte('a' + n)})
		c.dirs = append(c.dirs, composedDir{at: c.name, start: len(c.out)})
		c.put(itemEntry, modeDir, n, n, n, n)
	case 3:
		c.put(itemEntry, modeRegular|n, 0, 0, c.number(), n)
		c.put(itemPayload, c.take(n))
	case 4:
		c.put(itemEntry, c.number(), 0, 0, 0, 0)
	case 5:
		types := []itemType{itemXattr, itemACLUser, itemACLGroup, itemACLGroupObj, itemACLDefault, itemACLDefaultUser,
			itemACLDefaultGroup, itemFCaps, itemProjectID}
		t := types[n%len(types)]
		c.put(t, append(c.take(int(min(shapes[t].min, 32))), c.take(n%2)...))
	case 6:
		c.put(itemEntry, modeSymlink, 0, 0, 0, 0)
		c.put(itemSymlink, c.take(n), "\x00")
	case 7:
		c.put(itemEntry, modeChar, 0, 0, 0, 0)
		c.put(itemDevice, n, n)
	case 8:
		c.put(itemHardlink, c.name-c.number(), c.take(n), "\x00")
	case 9:
		c.put(itemEntry, modeRegular, 0, 0, 0, 0)
		c.put(itemPayloadRef, c.number(), n)
	case 10, 11:
		c.table()
	case 12:
		d := &c.dirs[len(c.dirs)-1]
		d.records = append(d.records, goodbye.Record{Hash: goodbye.Hash("na"), Offset: uint64(c.number()), Size: uint64(c.number())})
	case 13:
		c.put(itemEntryV1, modeFifo, 0, 0, 0)
	case 14:
		c.put(itemVersion, n)
	default:
		c.out = append(c.out, c.take(n)...)
	}
}

func (c *composer) begin(name []byte) {
	c.name = len(c.out)
	d := &c.dirs[len(c.dirs)-1]
	d.records = append(d.records, goodbye.Record{Hash: goodbye.Hash(string(name)), Offset: uint64(c.name)})
	c.put(itemFilename, name, "\x00")
}

// table ends the last directory. Sizes of entries reach to the next one.
func (c *composer) table() {
	d := c.dirs[len(c.dirs)-1]
	c.dirs = c.dirs[:len(c.dirs)-1]
	at := uint64(len(c.out))
	end := at
	for i, r := range slices.Backward(d.records) {
		if r.Size == 0 {
			d.records[i].Size = end - r.Offset
			end = r.Offset
		}
		d.records[i].Offset = at - r.Offset
	}
	var words []any
	for _, r := range goodbye.SearchTree(d.records) {
		words = append(words, r.Hash, r.Offset, r.Size)
	}
	words = append(words, uint64(goodbye.TailMark), at-uint64(d.start), uint64(40+24*len(d.records)))
	c.put(itemGoodbye, words...)
}
