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
