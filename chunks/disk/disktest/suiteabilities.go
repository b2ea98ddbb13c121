package disktest

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const suiteBlock = disk.DirectAlign

func testDirect(t *testing.T, w world) {
	f := w.open("a", os.O_RDWR|os.O_CREATE|disk.Direct)
	p := disk.AlignedBuffer(3 * suiteBlock)
	copy(p, pattern(len(p)))
	w.write(f, p[:2*suiteBlock], suiteBlock)
	w.write(f, p[2*suiteBlock:], 0)
	want := append(bytes.Clone(p[2*suiteBlock:]), p[:2*suiteBlock]...)
	w.holds(w.open("a", os.O_RDONLY), want)

	got := disk.AlignedBuffer(4 * suiteBlock)
	if n, err := f.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Errorf("direct read past the end: %d, %v; want %d, EOF and the content", n, err, len(want))
	}
	w.must(f.Truncate(suiteBlock + 100)) // as a tail is cut off
	if n, err := f.ReadAt(got, 0); n != suiteBlock+100 || err != io.EOF || !bytes.Equal(got[:n], want[:n]) {
		t.Errorf("direct read past an odd end: %d, %v; want %d, EOF and the content", n, err, suiteBlock+100)
	}
	w.must(f.Sync())
}

func testPunch(t *testing.T, w world) {
	content := pattern(64 * suiteBlock)
	f := w.file("a", content)
	w.must(f.Sync())
	p := ability[disk.Puncher](w, f)
	w.supported(p.Punch(8*suiteBlock, 40*suiteBlock))
	clear(content[8*suiteBlock : 48*suiteBlock])
	w.holds(f, content)
	w.must(p.Punch(suiteBlock/2, 10)) // within a block
	clear(content[suiteBlock/2 : suiteBlock/2+10])
	w.must(p.Punch(60*suiteBlock+5, 1<<40)) // beyond the end
	clear(content[60*suiteBlock+5:])
	w.holds(f, content)
	if ext, ok := f.(disk.Extenter); ok {
		w.must(f.Sync())
		got, err := ext.Allocated()
		w.supported(err)
		if got > 30*suiteBlock {
			t.Errorf("%d bytes occupied after most of %d were punched out", got, len(content))
		}
	}
	if ability[disk.Puncher](w, w.open("a", os.O_RDONLY)).Punch(0, suiteBlock) == nil {
		t.Error("a file opened for reading was punched")
	}
}

func testClone(t *testing.T, w world) {
	content := pattern(8 * suiteBlock)
	src, dst := w.file("src", content), w.file("dst", []byte("x"))
	w.must(src.Sync())
	c := ability[disk.Cloner](w, dst)
	w.supported(c.CloneRange(suiteBlock, src, 2*suiteBlock, 4*suiteBlock))
	want := make([]byte, 5*suiteBlock)
	want[0] = 'x'
	copy(want[suiteBlock:], content[2*suiteBlock:])
	w.holds(dst, want)
	w.write(src, make([]byte, 8*suiteBlock), 0)
	w.holds(dst, want)
	w.write(dst, []byte("!"), suiteBlock)
	want[suiteBlock] = '!'
	w.holds(dst, want)
	w.holds(src, make([]byte, 8*suiteBlock))
	w.must(c.CloneRange(0, src, 0, 0))
	w.holds(dst, want)
	for _, bad := range [][3]int64{{1, 0, suiteBlock}, {0, 1, suiteBlock}, {0, 0, 10}, {0, 5 * suiteBlock, 4 * suiteBlock}} {
		if c.CloneRange(bad[0], src, bad[1], bad[2]) == nil {
			t.Errorf("clone to %d from %d of %d bytes succeeded", bad[0], bad[1], bad[2])
		}
	}
}

func testMap(t *testing.T, w world) {
	content := pattern(3*suiteBlock + 7)
	f := w.file("a", content)
	data, unmap, err := ability[disk.Mapper](w, f).Map()
	w.supported(err)
	w.must(f.Close())
	w.must(w.fs.Remove(w.path("a")))
	if !bytes.Equal(data, content) {
		t.Error("a mapping differs from the content")
	}
	w.must(unmap())
	w.must(unmap())
	data, unmap, err = ability[disk.Mapper](w, w.file("empty", nil)).Map()
	w.must(err)
	if len(data) != 0 {
		t.Errorf("the mapping of an empty file has %d bytes", len(data))
	}
	w.must(unmap())
}

func testHoles(t *testing.T, w world) {
	f := w.file("a", nil)
	e := ability[disk.Extenter](w, f)
	const mib = 1 << 20
	w.write(f, pattern(mib), mib)
	w.must(f.Truncate(4 * mib))
	w.must(f.Sync())
	_, _, err := e.NextHole(0)
	w.supported(err)
	for _, row := range []struct{ off, start, end int64 }{
		{0, 0, mib},
		{5, 5, mib},
		{mib, 2 * mib, 4 * mib},
		{2*mib - 1, 2 * mib, 4 * mib},
		{4*mib - 1, 4*mib - 1, 4 * mib},
		{4 * mib, 4 * mib, 4 * mib},
		{9 * mib, 4 * mib, 4 * mib},
	} {
		start, end, err := e.NextHole(row.off)
		w.must(err)
		if start != row.start || end != row.end {
			t.Errorf("next hole from %d is [%d, %d), want [%d, %d)", row.off, start, end, row.start, row.end)
		}
	}
	if n, err := e.Allocated(); err != nil || n < mib || n > 2*mib {
		t.Errorf("%d bytes occupied, %v; want about %d", n, err, mib)
	}
	full := w.file("full", pattern(mib))
	w.must(full.Sync())
	if start, end, err := ability[disk.Extenter](w, full).NextHole(0); start != mib || end != mib || err != nil {
		t.Errorf("next hole of a file without: [%d, %d), %v; want its length", start, end, err)
	}
}
