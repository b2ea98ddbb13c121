package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// eachCrash runs work on copies of a file system that crash before the first
// change, before the second, and so on, and calls check with what several
// seeds leave of each. acked tells whether work had succeeded.
func eachCrash(t *testing.T, prepare func(*disktest.Mem), work func(*disktest.Mem) error, check func(m *disktest.Mem, acked bool)) {
	t.Helper()
	for at := 1; ; at++ {
		m := disktest.NewMem()
		prepare(m)
		changes := 0
		m.SetHook(func(op disktest.Op) error {
			if !op.Kind.Changes() {
				return nil
			}
			if changes++; changes == at {
				return &disktest.Short{N: int(op.Len) / 2, Err: disktest.ErrCrashed}
			}
			return nil
		})
		err := work(m)
		if err != nil && !errors.Is(err, disktest.ErrCrashed) {
			t.Fatalf("crash at change %d: %v", at, err)
		}
		check(m.CrashLosing(), err == nil)
		check(m.CrashKeeping(), err == nil)
		for seed := range uint64(20) {
			check(m.Crash(seed), err == nil)
		}
		if changes < at { // it was over before the crash
			return
		}
	}
}

func TestWriteFileAtomicLeavesTheOldOrTheNewFile(t *testing.T) {
	old, fresh := strings.Repeat("old", 1000), strings.Repeat("fresh", 3000)
	seen := map[string]int{}
	eachCrash(t,
		func(m *disktest.Mem) {
			if err := disk.WriteFileAtomic(m, "/f", []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		func(m *disktest.Mem) error { return disk.WriteFileAtomic(m, "/f", []byte(fresh), 0o600) },
		func(m *disktest.Mem, acked bool) {
			got, err := disk.ReadFile(m, "/f", 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			switch s := string(got); {
			case s == fresh:
				seen["new"]++
			case s == old && !acked:
				seen["old"]++
			default:
				t.Fatalf("%d bytes %.20q after a crash (acknowledged: %v)", len(got), got, acked)
			}
			if err := disk.RemoveTemps(m, "/f"); err != nil {
				t.Fatal(err)
			}
			if names := m.Names(); !slices.Equal(names, []string{"/f"}) {
				t.Fatalf("files %v after the leftovers were removed", names)
			}
		})
	if seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("the test saw only %v", seen)
	}
}

func TestMkdirAllIsDurable(t *testing.T) {
	eachCrash(t, func(*disktest.Mem) {},
		func(m *disktest.Mem) error { return disk.MkdirAll(m, "/a/b/c", 0o700) },
		func(m *disktest.Mem, acked bool) {
			if _, err := m.Stat("/a/b/c"); acked && err != nil {
				t.Fatalf("directory is gone after a crash: %v", err)
			}
		})
}

func TestMkdirAllSyncsWhatAnotherMade(t *testing.T) {
	m := disktest.NewMem()
	if err := m.Mkdir("/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(m, "/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CrashLosing().Stat("/a"); err != nil {
		t.Errorf("a directory that somebody else made is gone: %v", err)
	}
}

func TestWriteFileAtomicCleansUpAfterEveryError(t *testing.T) {
	for at := 1; ; at++ {
		m := disktest.NewMem()
		if err := disk.WriteFileAtomic(m, "/f", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := m.Ops()
		m.FailAt(before+at, syscall.ENOSPC)
		err := disk.WriteFileAtomic(m, "/f", []byte("new"), 0o600)
		if m.Ops() < before+at {
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d failed, and the result was %v", at, err)
		}
		if names := m.Names(); !slices.Equal(names, []string{"/f"}) {
			t.Errorf("operation %d failed and left %v", at, names)
		}
	}
}

func TestWriteFileAtomicOnAFullDisk(t *testing.T) {
	m := disktest.NewMem()
	m.SetLimit(8 * 4096)
	if err := disk.WriteFileAtomic(m, "/f", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFileAtomic(m, "/f", make([]byte, 9*4096), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write of more than fits: %v, want ENOSPC", err)
	}
	if got := m.Bytes("/f"); string(got) != "old" {
		t.Errorf("the old file has become %.20q", got)
	}
	if s, _ := m.Space("/"); s.FreeBytes != 7*4096 {
		t.Errorf("%d bytes free, want all but one block", s.FreeBytes)
	}
}

func TestIsTemp(t *testing.T) {
	for _, row := range []struct {
		name string
		want bool
	}{
		{"f.tmp-0123456789abcdef", true},
		{".tmp-0123456789abcdef", true},
		{"f.tmp-x.tmp-0123456789abcdef", true},
		{"f.tmp-0123456789abcde", false},
		{"f.tmp-0123456789abcdef.gz", false},
		{"f.tmp-0123456789abcdeg", false},
		{"f.tmp", false},
		{"0123456789abcdef", false},
		{"", false},
	} {
		if got := disk.IsTemp(row.name); got != row.want {
			t.Errorf("IsTemp(%q) is %v, want %v", row.name, got, row.want)
		}
	}
}

func TestRemoveTempsLeavesOtherFilesAlone(t *testing.T) {
	m := disktest.NewMem()
	const end = ".tmp-0123456789abcdef"
	for _, name := range []string{"/f", "/f" + end, "/g" + end, "/ff" + end, "/f.tmp-notes"} {
		f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if err := disk.RemoveTemps(m, "/f"); err != nil {
		t.Fatal(err)
	}
	if got, want := m.Names(), []string{"/f", "/f.tmp-notes", "/ff" + end, "/g" + end}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

func TestReadFileSaysWhatIsWrong(t *testing.T) {
	m := disktest.NewMem()
	if err := disk.WriteFileAtomic(m, "/f", []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.ReadFile(m, "/f", 4); err == nil || !strings.Contains(err.Error(), "/f") || !strings.Contains(err.Error(), "at most 4") {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := disk.ReadFile(m, "/none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	m.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Read {
			return syscall.EIO
		}
		return nil
	})
	if _, err := disk.ReadFile(m, "/f", 5); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file on a bad sector: %v", err)
	}
}

func TestAlignedBuffer(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 100_000, 4 << 20} {
		b := disk.AlignedBuffer(n)
		if len(b) != n || cap(b)%disk.DirectAlign != 0 {
			t.Errorf("buffer of %d bytes has length %d and capacity %d", n, len(b), cap(b))
		}
		if !disk.IsAligned(b[:cap(b)], 0) {
			t.Errorf("buffer of %d bytes is not aligned", n)
		}
	}
	b := disk.AlignedBuffer(8192)
	if disk.IsAligned(b[1:4097], 0) || disk.IsAligned(b[:100], 0) || disk.IsAligned(b, 512) {
		t.Error("memory, length or offset of odd alignment pass")
	}
}

func TestProbe(t *testing.T) {
	all := disk.Abilities{Direct: true, Punch: true, Clone: true, Map: true}
	for _, row := range []struct {
		name string
		fs   func() disk.FS
		want disk.Abilities
	}{
		{"everything works", func() disk.FS { return disktest.NewMem() }, all},
		{"nothing is there", func() disk.FS { return disktest.Plain(disktest.NewMem()) }, disk.Abilities{}},
		{"nothing works", func() disk.FS { return without(all) }, disk.Abilities{}},
		{"no direct files", func() disk.FS { return without(disk.Abilities{Direct: true}) }, disk.Abilities{Punch: true, Clone: true, Map: true}},
		{"no holes", func() disk.FS { return without(disk.Abilities{Punch: true}) }, disk.Abilities{Direct: true, Clone: true, Map: true}},
		{"no shared blocks", func() disk.FS { return without(disk.Abilities{Clone: true}) }, disk.Abilities{Direct: true, Punch: true, Map: true}},
		{"no mappings", func() disk.FS { return without(disk.Abilities{Map: true}) }, disk.Abilities{Direct: true, Punch: true, Clone: true}},
	} {
		got, err := disk.Probe(row.fs(), "/")
		if err != nil || got != row.want {
			t.Errorf("%s: %+v, %v; want %+v", row.name, got, err, row.want)
		}
	}
}

func without(a disk.Abilities) disk.FS {
	m := disktest.NewMem()
	m.Disable(a)
	return m
}

// A disk that lies is worse than one that cannot: a probe believes content and
// counters, not return values.
func TestProbeDoesNotBelieveSuccess(t *testing.T) {
	m := disktest.NewMem()
	if a, err := disk.Probe(lying{m}, "/"); err != nil || a.Punch || a.Clone {
		t.Errorf("%+v, %v; want neither Punch nor Clone", a, err)
	}
}

// lying has files whose Punch and CloneRange succeed and do nothing.
type lying struct{ disk.FS }

func (l lying) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	return lyingFile{f}, err
}

type lyingFile struct{ disk.File }

func (lyingFile) Punch(_, _ int64) error                            { return nil }
func (lyingFile) CloneRange(_ int64, _ disk.File, _, _ int64) error { return nil }
func (f lyingFile) Allocated() (int64, error)                       { return f.File.(disk.Extenter).Allocated() }
func (f lyingFile) NextHole(off int64) (start, end int64, err error) {
	return f.File.(disk.Extenter).NextHole(off)
}

func TestProbeFailsWhereNothingCanBeWritten(t *testing.T) {
	m := disktest.NewMem()
	m.SetLimit(4096)
	if _, err := disk.Probe(m, "/"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("probe of a full disk: %v, want ENOSPC", err)
	}
	if names := m.Names(); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
}

func TestProbeSurvivesEveryError(t *testing.T) {
	for at := 1; ; at++ {
		m := disktest.NewMem()
		m.FailAt(at, syscall.EIO)
		a, err := disk.Probe(m, "/")
		if m.Ops() < at {
			return
		}
		if err == nil && a == (disk.Abilities{Direct: true, Punch: true, Clone: true, Map: true}) {
			t.Errorf("operation %d failed, and everything works", at)
		}
		if _, err := disk.Probe(m, "/"); err != nil || len(m.Names()) > 0 {
			t.Errorf("operation %d failed; the next probe: %v, left %v", at, err, m.Names())
		}
	}
}

func ExampleWriteFileAtomic() {
	m := disktest.NewMem()
	if err := disk.MkdirAll(m, "/store", 0o700); err != nil {
		fmt.Println(err)
	}
	if err := disk.WriteFileAtomic(m, path.Join("/store", "identity"), []byte("me\n"), 0o600); err != nil {
		fmt.Println(err)
	}
	text, err := disk.ReadFile(m.CrashLosing(), "/store/identity", 100)
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// me
	// <nil>
}
