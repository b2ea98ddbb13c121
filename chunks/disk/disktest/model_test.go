package disktest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A model is a file as plain bytes: now, when it was last synced, and every
// state in between.
type model struct {
	file   disk.File
	now    []byte
	synced []byte
	since  [][]byte // states since the sync, and that one
}

// Promise: on any sequence of operations the file system in memory reads like
// plain bytes; a crash that keeps everything changes nothing, one that loses
// everything goes back to the last sync, and any other leaves in each place a
// byte that was there at some time since; the space in use is that of the
// pages there are.
func TestMemAgainstPlainBytes(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := NewMem()
			files := make([]*model, 3)
			for i := range files {
				f := durable(t, m, fmt.Sprint("/", i), "")
				files[i] = &model{file: f, since: [][]byte{nil}}
			}
			for range 60 {
				step(t, rng, files)
				checkModels(t, m, files)
			}
			checkCrashes(t, m, files)
		})
	}
}

const modelBytes = 5 * pageSize

// step does something to one of the files and to its model.
func step(t *testing.T, rng *rand.Rand, files []*model) {
	f, g := files[rng.IntN(len(files))], files[rng.IntN(len(files))]
	off, n := rng.IntN(modelBytes), 1+rng.IntN(2*pageSize)
	if rng.IntN(3) == 0 {
		off, n = off/pageSize*pageSize, (n+pageSize-1)/pageSize*pageSize
	}
	switch rng.IntN(9) {
	case 0, 1, 2, 3:
		p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, n)
		_, err := f.file.WriteAt(p, int64(off))
		do(t, err)
		f.set(max(len(f.now), off+n), func(b []byte) { copy(b[off:], p) })
	case 4:
		do(t, f.file.Truncate(int64(off)))
		f.set(off, func([]byte) {})
	case 5:
		do(t, f.file.(disk.Puncher).Punch(int64(off), int64(n)))
		f.set(len(f.now), func(b []byte) { clear(b[min(off, len(b)):min(off+n, len(b))]) })
	case 6:
		f.clone(t, g, off/pageSize*pageSize, rng.IntN(3)*pageSize, (n+pageSize-1)/pageSize*pageSize)
	case 7:
		do(t, f.file.Sync())
		f.synced, f.since = f.now, [][]byte{f.now}
	}
}

// clone shares blocks if that is allowed.
func (f *model) clone(t *testing.T, g *model, off, srcOff, n int) {
	err := f.file.(disk.Cloner).CloneRange(int64(off), g.file, int64(srcOff), int64(n))
	if bad := srcOff+n > len(g.now) || f == g && off < srcOff+n && srcOff < off+n; bad != (err != nil) {
		t.Fatalf("clone of [%d,+%d) of %d bytes to %d (same file: %v): %v", srcOff, n, len(g.now), off, f == g, err)
	} else if !bad {
		from := g.now[srcOff : srcOff+n]
		f.set(max(len(f.now), off+n), func(b []byte) { copy(b[off:], from) })
	}
}

// set makes a new state of size bytes and has it changed.
func (f *model) set(size int, change func([]byte)) {
	b := make([]byte, size)
	copy(b, f.now)
	change(b)
	f.now = b
	f.since = append(f.since, b)
}

// checkModels compares files with models, and the space in use with the pages.
func checkModels(t *testing.T, m *Mem, files []*model) {
	t.Helper()
	pages := map[*page]int{}
	for i, f := range files {
		if got := m.Bytes(fmt.Sprint("/", i)); !bytes.Equal(got, f.now) {
			t.Fatalf("file %d has %d bytes, want %d, and they differ at %d", i, len(got), len(f.now), differ(got, f.now))
		}
		ino := f.file.(*memFile).ino
		for n, pg := range ino.live.pages {
			pages[pg]++
			if n*pageSize >= ino.live.size {
				t.Fatalf("file %d of %d bytes has page %d", i, ino.live.size, n)
			}
		}
	}
	for pg, refs := range pages {
		if pg.refs != refs {
			t.Fatalf("a page that %d files have counts %d", refs, pg.refs)
		}
	}
	if want := int64(len(pages)) * pageSize; m.used != want {
		t.Fatalf("%d bytes in use, want %d", m.used, want)
	}
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// checkCrashes looks at what crashes leave of files with these models.
func checkCrashes(t *testing.T, m *Mem, files []*model) {
	t.Helper()
	kept, lost := m.CrashKeeping(), m.CrashLosing()
	for i, f := range files {
		name := fmt.Sprint("/", i)
		if !bytes.Equal(kept.Bytes(name), f.now) {
			t.Errorf("file %d: a crash that keeps everything has changed it", i)
		}
		if !bytes.Equal(lost.Bytes(name), f.synced) {
			t.Errorf("file %d: a crash that loses everything leaves %d bytes, synced were %d", i, len(lost.Bytes(name)), len(f.synced))
		}
		if used, err := open(t, kept, name).(disk.Extenter).Allocated(); err != nil || used > f.file.(*memFile).ino.live.size+pageSize {
			t.Errorf("file %d occupies %d bytes after a crash, %v", i, used, err)
		}
	}
	for seed := range uint64(6) {
		after := m.Crash(seed)
		for i, f := range files {
			f.checkCrashed(t, fmt.Sprintf("crash %d, file %d", seed, i), after.Bytes(fmt.Sprint("/", i)))
		}
	}
}

// checkCrashed checks that each byte of got was in its place at some time since
// the last sync, or that the file did not reach there.
func (f *model) checkCrashed(t *testing.T, when string, got []byte) {
	t.Helper()
	shortest, longest := len(f.now), 0
	for _, s := range f.since {
		shortest, longest = min(shortest, len(s)), max(longest, len(s))
	}
	if len(got) < shortest || len(got) > longest {
		t.Fatalf("%s: %d bytes, want %d to %d", when, len(got), shortest, longest)
	}
	for at := range got {
		if !slices.ContainsFunc(f.since, func(s []byte) bool {
			if at >= len(s) {
				return got[at] == 0
			}
			return got[at] == s[at]
		}) {
			t.Fatalf("%s: byte %d is %d, which it never was", when, at, got[at])
		}
	}
}

func BenchmarkMem(b *testing.B) {
	const size = 64 << 20
	m := NewMem()
	f, _ := m.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
	p := make([]byte, 64<<10)
	for off := int64(0); off < size; off += int64(len(p)) {
		_, _ = f.WriteAt(p, off)
	}
	_ = f.Sync()
	_ = m.SyncDir("/")
	b.Run("write 64 KiB and sync", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, _ = f.WriteAt(p, int64(i)*int64(len(p))%size)
			_ = f.Sync()
		}
	})
	b.Run("read 4 KiB", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, _ = f.ReadAt(p[:4096], int64(i)*4096%size)
		}
	})
	b.Run("crash with 64 MiB", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m.Crash(uint64(i))
		}
	})
}
