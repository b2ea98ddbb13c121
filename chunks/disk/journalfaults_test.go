package disk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

func TestJournalFailedRewriteChangesNothing(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "old")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	appendAll(j, "pending")
	m.SetLimit(8192)
	if err := j.Rewrite(sequence(strings.Repeat("x", 10_000))); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("rewrite on a full disk: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := replayed(t, m); !slices.Equal(got, []string{"old", "pending"}) || len(m.Names()) != 1 {
		t.Errorf("replayed %q, files %v", got, m.Names())
	}
}

func TestJournalIsPoisonedUntilItIsRewritten(t *testing.T) {
	for _, kind := range []disktest.Kind{disktest.Write, disktest.Sync} {
		m := disktest.NewMem()
		j, _ := mustOpen(t, m)
		appendAll(j, "a")
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
		m.SetHook(func(op disktest.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		appendAll(j, "b")
		first := j.Sync()
		m.SetHook(nil)
		if !errors.Is(first, syscall.EIO) || !strings.Contains(first.Error(), journalName) {
			t.Fatalf("failed %s: %v", kind, first)
		}
		for _, later := range []error{j.Sync(), j.Flush(), j.Sync()} {
			if !errors.Is(later, first) {
				t.Errorf("after a failed %s: %v, want the same error", kind, later)
			}
		}
		if err := j.Rewrite(sequence("a", "b")); err != nil {
			t.Fatal(err)
		}
		appendAll(j, "c")
		if err := j.Sync(); err != nil {
			t.Errorf("after the rewrite: %v", err)
		}
		if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("replayed %q", got)
		}
	}
}

// The new file is in place, but the directory may still name the old one: a
// record synced to either could be lost, so none may be.
func TestJournalIsPoisonedWhenARewriteMayNotSurvive(t *testing.T) {
	for _, kind := range []disktest.Kind{disktest.Rename, disktest.SyncDir} {
		m := disktest.NewMem()
		j, _ := mustOpen(t, m)
		m.SetHook(func(op disktest.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		if err := j.Rewrite(sequence("a")); !errors.Is(err, syscall.EIO) {
			t.Fatalf("failed %s: %v", kind, err)
		}
		m.SetHook(nil)
		appendAll(j, "b")
		if err := j.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync after a failed %s: %v", kind, err)
		}
		if err := j.Rewrite(sequence("a", "b")); err != nil {
			t.Errorf("second rewrite after a failed %s: %v", kind, err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("replayed %q", got)
		}
	}
}

func TestJournalRefusesRecordsThatAreTooLarge(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	largest := bytes.Repeat([]byte("x"), disk.MaxRecord)
	j.Append(largest)
	if err := j.Sync(); err != nil {
		t.Errorf("the largest record: %v", err)
	}
	if got := replayed(t, m); len(got) != 1 || got[0] != string(largest) {
		t.Error("the largest record does not come back")
	}
	j.Append(append(largest, 'x'))
	if err := j.Sync(); err == nil || !strings.Contains(err.Error(), "16777217 bytes") {
		t.Errorf("a record one byte too large: %v", err)
	}
	if err := j.Rewrite(sequence(string(largest) + "x")); err == nil || !strings.Contains(err.Error(), "16777217 bytes") {
		t.Errorf("a rewrite with a record one byte too large: %v", err)
	}
	if err := j.Rewrite(sequence("small")); err != nil {
		t.Error(err)
	}
}

func TestJournalAfterClose(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	appendAll(j, "late", strings.Repeat("x", disk.MaxRecord+1))
	for what, err := range map[string]error{
		"sync": j.Sync(), "flush": j.Flush(), "rewrite": j.Rewrite(sequence("x")), "close": j.Close(),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	if got := replayed(t, m); len(got) > 0 {
		t.Errorf("replayed %q", got)
	}
}

func TestJournalPassesErrorsOfReplayOn(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "a", "b")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	strange := errors.New("strange record")
	_, err := disk.OpenJournal(m, journalName, func([]byte) error { return strange })
	if !errors.Is(err, strange) || !strings.Contains(err.Error(), journalName) {
		t.Errorf("error %v", err)
	}
}

func TestJournalOpenFailsWithoutHarm(t *testing.T) {
	for at := 1; ; at++ {
		m := disktest.NewMem()
		j, _ := mustOpen(t, m)
		appendAll(j, "a", "b")
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
		appendAll(j, "torn")
		if err := j.Flush(); err != nil {
			t.Fatal(err)
		}
		m = m.CrashKeeping()
		m.TruncateFile(journalName, int64(len(m.Bytes(journalName)))-1)
		m.FailAt(at, syscall.EIO)
		j, _, err := openJournal(m)
		if m.Ops() < at {
			return
		}
		if !errors.Is(err, syscall.EIO) || j != nil {
			t.Errorf("operation %d failed: journal %v, %v", at, j, err)
		}
		if got := replayed(t, m); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("operation %d failed, and then %q was replayed", at, got)
		}
	}
}

func TestJournalRemovesWhatACrashedRewriteLeft(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	m.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.Rename {
			return disktest.ErrCrashed
		}
		return nil
	})
	if err := j.Rewrite(sequence("x")); !errors.Is(err, disktest.ErrCrashed) {
		t.Fatal(err)
	}
	m = m.CrashKeeping()
	if len(m.Names()) != 2 {
		t.Fatalf("files %v, want the journal and a leftover", m.Names())
	}
	replayed(t, m)
	if len(m.Names()) != 1 {
		t.Errorf("files %v, want the journal", m.Names())
	}
}
