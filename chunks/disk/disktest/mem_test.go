package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const seeds = 200

// do fails the test if any of errs is not nil.
func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// open opens a file of m, creating it if need be.
func open(t *testing.T, m *Mem, name string) disk.File {
	t.Helper()
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	do(t, err)
	return f
}

// write stores s at off.
func write(t *testing.T, f disk.File, s string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	do(t, err)
}

// durable makes a file whose content and name survive.
func durable(t *testing.T, m *Mem, name, content string) disk.File {
	t.Helper()
	f := open(t, m, name)
	write(t, f, content, 0)
	do(t, f.Sync(), m.SyncDir("/"))
	return f
}

// outcomes returns what describe says of many crashes of m, each once, sorted.
func outcomes(m *Mem, describe func(*Mem) string) []string {
	seen := map[string]bool{}
	for seed := range uint64(seeds) {
		seen[describe(m.Crash(seed))] = true
	}
	all := []string{}
	for s := range seen {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// names describes a file system by its files.
func names(m *Mem) string { return strings.Join(m.Names(), " ") }

// wantOutcomes fails the test unless crashes of m lead to exactly these.
func wantOutcomes(t *testing.T, m *Mem, describe func(*Mem) string, want ...string) {
	t.Helper()
	if got := outcomes(m, describe); !slices.Equal(got, want) {
		t.Errorf("crashes lead to %q, want %q", got, want)
	}
}

func TestCrashKeepsOnlyDurableNames(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(m *Mem) error
		want []string
	}{
		{"a file that was created may be gone, though it was synced", func(m *Mem) error {
			return open(t, m, "/new").Sync()
		}, []string{"/a /b", "/a /b /new"}},
		{"a file in a synced directory is there", func(m *Mem) error {
			open(t, m, "/new")
			return m.SyncDir("/")
		}, []string{"/a /b /new"}},
		{"a rename is whole or not at all", func(m *Mem) error { return m.Rename("/a", "/c") }, []string{"/a /b", "/b /c"}},
		{"a rename that was synced is durable", func(m *Mem) error {
			return errors.Join(m.Rename("/a", "/c"), m.SyncDir("/"))
		}, []string{"/b /c"}},
		{"a replaced file is never missing", func(m *Mem) error { return m.Rename("/a", "/b") }, []string{"/a /b", "/b"}},
		{"a removed file may come back", func(m *Mem) error { return m.Remove("/a") }, []string{"/a /b", "/b"}},
		{"changes are independent of each other", func(m *Mem) error {
			return errors.Join(m.Remove("/a"), m.Remove("/b"))
		}, []string{"", "/a", "/a /b", "/b"}},
		{"a rename needs the file that it renames", func(m *Mem) error {
			open(t, m, "/t")
			return m.Rename("/t", "/b")
		}, []string{"/a /b", "/a /b /t"}},
		{"a directory that was not synced takes its files along", func(m *Mem) error {
			do(t, m.Mkdir("/d", 0o700))
			open(t, m, "/d/x")
			return m.SyncDir("/d")
		}, []string{"/a /b", "/a /b /d/x"}},
		{"a rename between directories needs both to be synced", func(m *Mem) error {
			do(t, m.Mkdir("/d", 0o700), m.SyncDir("/"))
			return errors.Join(m.Rename("/a", "/d/a"), m.SyncDir("/d"))
		}, []string{"/a /b", "/b /d/a"}},
		{"a rename between directories that were both synced is durable", func(m *Mem) error {
			do(t, m.Mkdir("/d", 0o700), m.SyncDir("/"))
			return errors.Join(m.Rename("/a", "/d/a"), m.SyncDir("/d"), m.SyncDir("/"))
		}, []string{"/b /d/a"}},
		{"what is synced makes durable what it builds on", func(m *Mem) error {
			do(t, m.Mkdir("/d", 0o700), m.SyncDir("/"))
			open(t, m, "/d/t") // in a directory that is never synced
			return errors.Join(m.Rename("/d/t", "/c"), m.Rename("/c", "/e"), m.SyncDir("/"))
		}, []string{"/a /b /e"}},
		{"a name can be used again and again", func(m *Mem) error {
			for range 3 {
				do(t, m.Remove("/a"))
				open(t, m, "/a")
			}
			return nil
		}, []string{"/a /b", "/b"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := NewMem()
			durable(t, m, "/a", "A")
			durable(t, m, "/b", "B")
			do(t, row.do(m))
			live := names(m)
			wantOutcomes(t, m, names, row.want...)
			if got := names(m.CrashKeeping()); got != live {
				t.Errorf("a crash that keeps everything leaves %q of %q", got, live)
			}
			if got := names(m.CrashLosing()); !slices.Contains(row.want, got) {
				t.Errorf("a crash that loses everything leaves %q", got)
			}
		})
	}
}

func TestCrashKeepsRenamedContentWhole(t *testing.T) {
	m := NewMem()
	durable(t, m, "/f", "old")
	f := open(t, m, "/t")
	write(t, f, "new", 0)
	do(t, f.Sync(), m.Rename("/t", "/f"))
	content := func(m *Mem) string { return string(m.Bytes("/f")) }
	wantOutcomes(t, m, content, "new", "old")
	do(t, NewMem().SyncDir("/"))
}

func TestCrashTearsContent(t *testing.T) {
	old, fresh := strings.Repeat("o", 2*sectorSize), strings.Repeat("n", 2*sectorSize)
	// One letter a sector: - is zero, . is shorter than a sector.
	sectors := func(m *Mem) string {
		b, s := m.Bytes("/f"), ""
		for part := range slices.Chunk(b, sectorSize) {
			switch {
			case len(part) < sectorSize:
				s += "."
			case bytes.Count(part, part[:1]) < sectorSize:
				s += "?" // a mixture
			case part[0] == 0:
				s += "-"
			default:
				s += string(part[0])
			}
		}
		return s
	}
	for _, row := range []struct {
		name string
		do   func(f disk.File) error
		want []string
	}{
		{"nothing is lost that was synced", func(f disk.File) error {
			write(t, f, fresh, 0)
			return f.Sync()
		}, []string{"nn"}},
		{"any sector of a write may be old", func(f disk.File) error {
			write(t, f, fresh, 0)
			return nil
		}, []string{"nn", "no", "on", "oo"}},
		{"a sector written twice holds either", func(f disk.File) error {
			write(t, f, fresh[:sectorSize], 0)
			write(t, f, strings.Repeat("m", sectorSize), 0)
			return nil
		}, []string{"mo", "no", "oo"}},
		{"a file that was cut off is long or short", func(f disk.File) error { return f.Truncate(sectorSize) }, []string{"o", "oo"}},
		{"a hole has old blocks or none", func(f disk.File) error { return f.(disk.Puncher).Punch(0, 2*sectorSize) }, []string{"--", "oo"}},
		{"what is cut off and written again is old, new or missing", func(f disk.File) error {
			do(t, f.Truncate(0))
			write(t, f, fresh[:sectorSize], sectorSize)
			return nil
		}, []string{"", "-", "--", "-.", "-n", ".", "on", "oo"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := NewMem()
			f := durable(t, m, "/f", old)
			do(t, row.do(f))
			wantOutcomes(t, m, sectors, row.want...)
		})
	}
	t.Run("a file that grew has any length, and zeros where nothing was written", func(t *testing.T) {
		m := NewMem()
		f := durable(t, m, "/f", old)
		write(t, f, fresh, 2*sectorSize)
		got := outcomes(m, sectors)
		for _, s := range got {
			if !strings.HasPrefix(s, "oo") || strings.ContainsAny(s[2:], "?o") || len(s) > 4 {
				t.Errorf("sectors %q", s)
			}
		}
		for _, want := range []string{"oo", "oo.", "oon", "oon.", "oonn", "oo-n", "oo--", "oon-"} {
			if !slices.Contains(got, want) {
				t.Errorf("no crash led to %q, only to %q", want, got)
			}
		}
	})
}

func TestCrashIsTheSameForTheSameSeed(t *testing.T) {
	m := NewMem()
	for _, name := range []string{"/a", "/b", "/c", "/d"} {
		f := open(t, m, name)
		for i := range int64(20) {
			write(t, f, strings.Repeat(name, 500), i*777)
		}
	}
	describe := func(m *Mem) string {
		s := names(m)
		for _, name := range m.Names() {
			s += string(m.Bytes(name))
		}
		return s
	}
	for seed := range uint64(20) {
		if first, second := describe(m.Crash(seed)), describe(m.Crash(seed)); first != second {
			t.Errorf("seed %d has two outcomes", seed)
		}
	}
	if n := len(outcomes(m, describe)); n < seeds/2 {
		t.Errorf("%d seeds have only %d outcomes", seeds, n)
	}
}

func TestCrashEndsTheOldFileSystem(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "/f", "content")
	lock, err := m.Lock("/lock")
	do(t, err, m.SyncDir("/"))
	before, err := m.Ident("/")
	do(t, err)
	n := m.Crash(1)

	if !m.Crashed() || n.Crashed() {
		t.Error("the wrong one has crashed")
	}
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt(make([]byte, 1), 0)
	_, openErr := m.OpenFile("/f", os.O_RDONLY, 0)
	_, dirErr := m.ReadDir("/")
	for what, err := range map[string]error{
		"read": readErr, "write": writeErr, "open": openErr, "readdir": dirErr,
		"sync": f.Sync(), "rename": m.Rename("/f", "/g"), "syncdir": m.SyncDir("/"),
	} {
		if !errors.Is(err, ErrCrashed) {
			t.Errorf("%s after the crash: %v", what, err)
		}
	}
	do(t, f.Close(), lock.Close())

	if after, err := n.Ident("/"); err != nil || after != before {
		t.Errorf("identity %s, %v; before the crash %s", after, err, before)
	}
	if other, _ := NewMem().Ident("/"); other == before {
		t.Error("two file systems have the same identity")
	}
	if _, err := n.Lock("/lock"); err != nil {
		t.Errorf("the lock outlived its holder: %v", err)
	}
	if got := string(n.Bytes("/f")); got != "content" {
		t.Errorf("content %q", got)
	}
}

func TestWakingUpTwiceDoesNotShareMemory(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "/f", strings.Repeat("o", 10_000))
	write(t, f, "pending", 3)
	a, b := m.CrashKeeping(), m.CrashKeeping()
	write(t, open(t, a, "/f"), "AAAAAAAAAAA", 0)
	if got := string(b.Bytes("/f")[:11]); got != "ooopendingo" {
		t.Errorf("a write to one file system shows in another: %q", got)
	}
	if got := string(a.CrashLosing().Bytes("/f")[:11]); got != "ooopendingo" {
		t.Errorf("what woke up is not durable: %q", got)
	}
}

func TestLimit(t *testing.T) {
	m := NewMem()
	m.SetLimit(10 * pageSize)
	f := open(t, m, "/f")
	n, err := f.WriteAt(make([]byte, 11*pageSize), 100)
	if !errors.Is(err, syscall.ENOSPC) || n != 10*pageSize-100 {
		t.Errorf("wrote %d, %v; want what fits, and ENOSPC", n, err)
	}
	free := func(want int64) {
		t.Helper()
		s, err := m.Space("/")
		if err != nil || s.FreeBytes != want*pageSize || s.TotalBytes != 10*pageSize {
			t.Errorf("%+v, %v; want %d blocks free of 10", s, err, want)
		}
	}
	free(0)
	write(t, f, "over what is there", 200)
	do(t, f.(disk.Puncher).Punch(0, 4*pageSize))
	free(4)
	g := open(t, m, "/g")
	do(t, g.(disk.Cloner).CloneRange(0, f, 4*pageSize, 4*pageSize))
	free(4) // shared
	write(t, g, "own", 0)
	free(3)
	do(t, g.Truncate(0))
	free(4)
	do(t, m.Remove("/f"))
	free(4) // still open
	do(t, f.Close())
	free(10)
	m.SetLimit(0)
	write(t, g, strings.Repeat("x", 100*pageSize), 0)
}

func TestFaults(t *testing.T) {
	for name, fsys := range map[string]interface {
		disk.FS
		Ops() int
		FailAt(int, error)
		SetHook(func(Op) error)
	}{"memory": NewMem(), "Faulty": NewFaulty(NewMem())} {
		t.Run(name, func(t *testing.T) {
			f, err := fsys.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
			do(t, err)
			fsys.FailAt(fsys.Ops()+2, syscall.EIO)
			_, err = f.WriteAt([]byte("one"), 0)
			do(t, err)
			if _, err = f.WriteAt([]byte("two"), 0); !errors.Is(err, syscall.EIO) {
				t.Errorf("the operation that should fail: %v", err)
			}
			var ops []Op
			fsys.SetHook(func(op Op) error {
				ops = append(ops, op)
				if op.Kind == Write {
					return &Short{N: 2, Err: syscall.ENOSPC}
				}
				return nil
			})
			if n, err := f.WriteAt([]byte("three"), 1); n != 2 || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("short write: %d, %v", n, err)
			}
			b := make([]byte, 3)
			_, err = f.ReadAt(b, 0)
			do(t, err, f.Sync(), fsys.Rename("/f", "/g"))
			if string(b) != "oth" {
				t.Errorf("content %q, want \"oth\"", b)
			}
			want := []Op{
				{Seq: 4, Kind: Write, Name: "/f", Off: 1, Len: 5}, {Seq: 5, Kind: Read, Name: "/f", Len: 3},
				{Seq: 6, Kind: Sync, Name: "/f"}, {Seq: 7, Kind: Rename, Name: "/f", NewName: "/g"},
			}
			if !slices.Equal(ops, want) {
				t.Errorf("the hook saw %v, want %v", ops, want)
			}
			fsys.SetHook(func(Op) error { return ErrCrashed })
			if err := f.Sync(); !errors.Is(err, ErrCrashed) {
				t.Errorf("crash in a hook: %v", err)
			}
			fsys.SetHook(nil)
			if _, err := fsys.Stat("/g"); !errors.Is(err, ErrCrashed) {
				t.Errorf("after the crash: %v", err)
			}
		})
	}
}

// Every operation must ask the hook, or a test that makes "the k-th" fail
// passes over some.
func TestEveryOperationCanFail(t *testing.T) {
	for _, fsys := range []interface {
		disk.FS
		SetHook(func(Op) error)
	}{NewMem(), NewFaulty(NewMem())} {
		seen := map[Kind]bool{}
		fsys.SetHook(func(op Op) error { seen[op.Kind] = true; return nil })
		f, err := fsys.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
		do(t, err)
		calls := map[Kind]func() error{
			Open:     func() error { _, err := fsys.OpenFile("/f", os.O_RDWR, 0); return err },
			Create:   func() error { _, err := fsys.OpenFile("/g", os.O_RDWR|os.O_CREATE, 0o600); return err },
			Read:     func() error { _, err := f.ReadAt(nil, 0); return err },
			Write:    func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
			Truncate: func() error { return f.Truncate(8192) },
			Sync:     f.Sync,
			Punch:    func() error { return f.(disk.Puncher).Punch(0, 1) },
			Clone:    func() error { return f.(disk.Cloner).CloneRange(0, f, 4096, 4096) },
			Map:      func() error { _, _, err := f.(disk.Mapper).Map(); return err },
			Stat:     func() error { _, err := f.Size(); return err },
			Rename:   func() error { return fsys.Rename("/g", "/h") },
			Mkdir:    func() error { return fsys.Mkdir("/d", 0o700) },
			Remove:   func() error { return fsys.Remove("/h") },
			ReadDir:  func() error { _, err := fsys.ReadDir("/"); return err },
			SyncDir:  func() error { return fsys.SyncDir("/") },
			Lock:     func() error { _, err := fsys.Lock("/l"); return err },
			Space:    func() error { _, err := fsys.Space("/"); return err },
			Ident:    func() error { _, err := fsys.Ident("/"); return err },
		}
		for kind := Open; kind <= Ident; kind++ {
			delete(seen, kind)
			do(t, calls[kind]())
			if !seen[kind] {
				t.Errorf("%T: no hook for %s", fsys, kind)
			}
			fsys.SetHook(func(op Op) error {
				if op.Kind == kind {
					return syscall.EIO
				}
				return nil
			})
			if err := calls[kind](); !errors.Is(err, syscall.EIO) {
				t.Errorf("%T: %s that should fail: %v", fsys, kind, err)
			}
			fsys.SetHook(func(op Op) error { seen[op.Kind] = true; return nil })
		}
	}
}

func TestDirectMindsAlignment(t *testing.T) {
	m := NewMem()
	f, err := m.OpenFile("/f", os.O_RDWR|os.O_CREATE|disk.Direct, 0o600)
	do(t, err)
	b := disk.AlignedBuffer(2 * 4096)
	for _, row := range []struct {
		p   []byte
		off int64
		ok  bool
	}{{b, 0, true}, {b[:4096], 4096, true}, {b[:4096], 512, false}, {b[:4095], 0, false}, {b[1:4097], 0, false}} {
		_, writeErr := f.WriteAt(row.p, row.off)
		_, readErr := f.ReadAt(row.p, row.off)
		if row.ok != (writeErr == nil) || row.ok != (readErr == nil) {
			t.Errorf("%d bytes at %d: %v, %v", len(row.p), row.off, writeErr, readErr)
		}
	}
}

func TestUnmappedMemoryIsGarbage(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "/f", "content")
	data, unmap, err := f.(disk.Mapper).Map()
	do(t, err, unmap())
	if string(data) == "content" {
		t.Error("a mapping can be used after it is gone")
	}
}

func TestDamageIsDurable(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "/f", strings.Repeat("a", 5000))
	g := open(t, m, "/g")
	do(t, f.Sync(), m.SyncDir("/"))
	write(t, g, strings.Repeat("x", 4096), 0)
	do(t, g.Sync(), f.(disk.Cloner).CloneRange(0, g, 0, 4096), f.Sync())
	m.FlipBit("/f", 4096)
	m.WriteRaw("/f", 1, []byte("RAW"))
	m.TruncateFile("/f", 4097)
	want := "xRAW" + strings.Repeat("x", 4092) + "`"
	for _, m := range []*Mem{m, m.CrashLosing(), m.CrashKeeping(), m.Crash(1)} {
		if got := string(m.Bytes("/f")); got != want {
			t.Errorf("damaged file is %.10q… of %d bytes", got, len(got))
		}
		if got := m.Bytes("/g"); bytes.ContainsAny(got, "RAW") {
			t.Error("damage of one file has spread to another that shares blocks with it")
		}
	}
}

func TestMemIsSafeForConcurrentUse(t *testing.T) {
	m := NewMem()
	f := open(t, m, "/shared")
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			name := "/" + string(rune('a'+w))
			g, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				if !errors.Is(err, ErrCrashed) {
					t.Error(err)
				}
				return
			}
			b := make([]byte, 3000)
			for i := range 50 {
				_, e1 := f.WriteAt(b, int64(w*3000))
				_, e2 := f.ReadAt(b, 0)
				_, e3 := g.WriteAt(b, int64(i*3000))
				if err := errors.Join(e1, e2, e3, f.Sync(), g.Sync(), m.SyncDir("/")); err != nil && !errors.Is(err, ErrCrashed) && !errors.Is(err, io.EOF) {
					t.Error(err)
				}
			}
		})
	}
	for m.Ops() < 500 {
		m.SetHook(func(Op) error { return nil })
		_ = m.Names()
	}
	for seed := range uint64(5) {
		write(t, open(t, m.Crash(seed), "/z"), "x", 0)
	}
	all.Wait()
	if _, err := m.Stat("/"); !errors.Is(err, ErrCrashed) {
		t.Errorf("after the crash: %v", err)
	}
	if _, err := m.ReadDir("/none"); errors.Is(err, fs.ErrNotExist) {
		t.Error("a crashed file system still knows its names")
	}
}
