package disktest

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

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
