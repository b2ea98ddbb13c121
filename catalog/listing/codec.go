package listing

import (
	"encoding/binary"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendGroup writes path, stamp, count, and the snapshots.
func appendGroup(b []byte, key string, g *Group) []byte {
	b = appendText(b, key)
	b = binary.AppendVarint(binary.AppendVarint(b, g.Stamp.Modified), g.Stamp.Changed)
	b = binary.AppendUvarint(b, g.Stamp.Inode)
	b = binary.AppendUvarint(b, uint64(len(g.Infos)))
	for i := range g.Infos {
		b = appendInfo(b, &g.Infos[i])
	}
	return b
}

// Bits that say what of an Info is there.
const (
	hasSize = 1 << iota
	hasVerification
	hasStats
	isProtected
)

func bit(on bool, b uint64) uint64 {
	if on {
		return b
	}
	return 0
}

func appendInfo(b []byte, i *Info) []byte {
	flags := bit(i.Size != nil, hasSize) | bit(i.Verification != nil, hasVerification) |
		bit(i.Stats != nil, hasStats) | bit(i.Protected, isProtected)
	b = binary.AppendUvarint(binary.AppendVarint(b, i.Time), flags)
	b = appendText(appendText(b, i.Comment), i.Fingerprint)
	if i.Size != nil {
		b = binary.AppendUvarint(b, *i.Size)
	}
	if v := i.Verification; v != nil {
		b = appendText(appendText(b, v.State), v.UPID)
	}
	if u := i.Stats; u != nil {
		for _, n := range []uint64{u.Count, u.Size, u.CompressedSize, u.Duplicates} {
			b = binary.AppendUvarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(i.Files)))
	for _, f := range i.Files {
		b = appendText(appendText(b, f.Name), string(f.CryptMode))
		if f.Size == nil {
			b = append(b, 0)
		} else {
			b = binary.AppendUvarint(append(b, 1), *f.Size)
		}
	}
	return b
}

// Least lengths in bytes of what a count announces, so that a wrong count
// makes nobody reserve memory for what cannot follow.
const (
	leastInfo = 5 // time, flags, comment, fingerprint, files
	leastFile = 3 // name, mode, size
)

// A decoder reads what the functions above wrote. Texts share its memory.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) fail() {
	d.bad, d.s = true, ""
}

func (d *decoder) uint() uint64 {
	var n uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break // more than 64 bits
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.s = d.s[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) int() int64 {
	n := d.uint()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) text() string {
	n := d.uint()
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

// count reads how many things follow, of at least so many bytes each.
func (d *decoder) count(least int) int {
	n := d.uint()
	if n > uint64(len(d.s)/least) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) infos(ns naming.Namespace, g naming.Group) []Info {
	infos := make([]Info, d.count(leastInfo))
	for k := range infos {
		i := &infos[k]
		i.Namespace, i.Type, i.ID = ns, g.Type, g.ID
		d.info(i)
	}
	return infos
}

func (d *decoder) info(i *Info) {
	i.Time = d.int()
	flags := d.uint()
	i.Comment, i.Fingerprint = d.text(), d.text()
	i.Protected = flags&isProtected != 0
	if flags&hasSize != 0 {
		n := d.uint()
		i.Size = &n
	}
	if flags&hasVerification != 0 {
		i.Verification = &manifest.VerifyState{State: d.text(), UPID: d.text()}
	}
	if flags&hasStats != 0 {
		i.Stats = &manifest.UploadStats{Count: d.uint(), Size: d.uint(), CompressedSize: d.uint(), Duplicates: d.uint()}
	}
	i.Files = make([]File, d.count(leastFile))
	sizes := make([]uint64, len(i.Files))
	for k := range i.Files {
		f := &i.Files[k]
		f.Name, f.CryptMode = d.text(), manifest.CryptMode(d.text())
		if d.uint() == 1 {
			sizes[k] = d.uint()
			f.Size = &sizes[k]
		}
	}
}
