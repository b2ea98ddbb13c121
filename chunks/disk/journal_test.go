package disk_test

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

const journalName = "/j"

// openJournal opens the journal of m and returns what it replayed.
func openJournal(m disk.FS) (*disk.Journal, []string, error) {
	var got []string
	j, err := disk.OpenJournal(m, journalName, func(r []byte) error {
		got = append(got, string(r))
		return nil
	})
	return j, got, err
}

// mustOpen is openJournal where nothing may fail.
func mustOpen(t *testing.T, m disk.FS) (*disk.Journal, []string) {
	t.Helper()
	j, got, err := openJournal(m)
	if err != nil {
		t.Fatal(err)
	}
	return j, got
}

// replayed opens and closes the journal.
func replayed(t *testing.T, m disk.FS) []string {
	t.Helper()
	j, got := mustOpen(t, m)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

// appendAll appends records.
func appendAll(j *disk.Journal, records ...string) {
	for _, r := range records {
		j.Append([]byte(r))
	}
}

func sequence(records ...string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, r := range records {
			if !yield([]byte(r)) {
				return
			}
		}
	}
}

func TestJournalReplaysWhatWasAppended(t *testing.T) {
	m := disktest.NewMem()
	var want []string
	for round := range 5 {
		j, got := mustOpen(t, m)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d replayed %d records, want %d", round, len(got), len(want))
		}
		for i := range round * 3 {
			want = append(want, strings.Repeat(fmt.Sprint(round), i*i*100)) // also empty ones
			j.Append([]byte(want[len(want)-1]))
			if i%2 == 0 {
				if err := j.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJournalDoesNotRetainRecords(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	b := []byte("before")
	j.Append(b)
	copy(b, "xxxxxx")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var kept [][]byte
	_, err := disk.OpenJournal(m, journalName, func(r []byte) error { kept = append(kept, r); return nil })
	if err != nil || len(kept) != 1 || string(kept[0]) != "before" {
		t.Errorf("replayed %q, %v", kept, err)
	}
}

func TestJournalFlushSurvivesTheProcessAndSyncThePowerCut(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "synced")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	appendAll(j, "flushed")
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}
	appendAll(j, "appended")
	if got := replayed(t, m.CrashKeeping()); !slices.Equal(got, []string{"synced", "flushed"}) {
		t.Errorf("after the end of the process: %q", got)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"synced"}) {
		t.Errorf("after a power cut: %q", got)
	}
}

// What a killed process left in the page cache is replayed, so somebody may
// act on it; from then on it must not go away any more.
func TestJournalMakesDurableWhatItReplays(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "flushed")
	if err := j.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, got := mustOpen(t, m); !slices.Equal(got, []string{"flushed"}) {
		t.Fatalf("replayed %q", got)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"flushed"}) {
		t.Errorf("after a power cut: %q", got)
	}
}

// A process was killed when the journal had its name, but not durably. Records
// that the next one syncs must not vanish together with the name.
func TestJournalMakesItsNameDurable(t *testing.T) {
	m := disktest.NewMem()
	m.SetHook(func(op disktest.Op) error {
		if op.Kind == disktest.SyncDir {
			return syscall.EIO
		}
		return nil
	})
	if _, _, err := openJournal(m); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.SetHook(nil)
	j, _ := mustOpen(t, m)
	appendAll(j, "a")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("replayed %q", got)
	}
}

func TestJournalRewriteReplacesEverything(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	for i := range 1000 {
		appendAll(j, fmt.Sprint("old ", i))
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	appendAll(j, "superseded")
	before := j.Size()
	if err := j.Rewrite(sequence("a", "", "b")); err != nil {
		t.Fatal(err)
	}
	if j.Size() >= before || j.Size() != int64(len(m.Bytes(journalName))) {
		t.Errorf("size %d after a rewrite, before %d, in the file %d", j.Size(), before, len(m.Bytes(journalName)))
	}
	appendAll(j, "c")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"a", "", "b", "c"}) {
		t.Errorf("replayed %q", got)
	}
}

func TestJournalRewriteOfMoreThanOneChunk(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	var want []string
	for i := range 40 {
		want = append(want, strings.Repeat(string(rune('a'+i)), i*1000))
	}
	want = append(want, strings.Repeat("large", 100_000))
	if err := j.Rewrite(sequence(want...)); err != nil {
		t.Fatal(err)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, want) {
		t.Errorf("replayed %d records, want %d", len(got), len(want))
	}
}

func TestJournalKeepsWhatIsAppendedDuringARewrite(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "superseded")
	err := j.Rewrite(func(yield func([]byte) bool) {
		done := make(chan struct{})
		go func() { defer close(done); appendAll(j, "meanwhile") }()
		<-done
		yield([]byte("state"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := replayed(t, m.CrashLosing()); !slices.Equal(got, []string{"state", "meanwhile"}) {
		t.Errorf("replayed %q", got)
	}
}

func TestJournalWritesByItselfBeforeItTakesTooMuchMemory(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	record := make([]byte, 1<<20)
	for range 10 {
		j.Append(record)
	}
	if j.Size() < 5<<20 {
		t.Errorf("10 MiB were appended, and %d bytes are in the file", j.Size())
	}
}

func TestJournalOnTheMachine(t *testing.T) {
	t.Chdir(t.TempDir())
	var want []string
	for round := range 3 {
		var got []string
		j, err := disk.OpenJournal(disk.OS{}, "j", func(r []byte) error { got = append(got, string(r)); return nil })
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("round %d: replayed %q, %v; want %q", round, got, err, want)
		}
		appendAll(j, "a", "b")
		want = append(want, "a", "b")
		if round == 1 {
			if err := j.Rewrite(sequence("new")); err != nil {
				t.Fatal(err)
			}
			want = []string{"new"}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat("j"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("journal has mode %v, %v; want only its owner to read it", info.Mode(), err)
	}
}

// slowSync is a disk on which a sync takes until it is released.
type slowSync struct {
	mu      sync.Mutex
	syncs   int
	release chan struct{}
}

func (s *slowSync) hook(op disktest.Op) error {
	if op.Kind == disktest.Sync {
		s.mu.Lock()
		s.syncs++
		s.mu.Unlock()
		<-s.release
	}
	return nil
}

// While one fsync is under way, any number of callers gather behind it, and
// one more fsync serves them all.
func TestJournalCommitsInGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := disktest.NewMem()
		j, _ := mustOpen(t, m)
		slow := &slowSync{release: make(chan struct{})}
		m.SetHook(slow.hook)
		const callers = 100
		var all sync.WaitGroup
		all.Go(func() {
			appendAll(j, "first")
			if err := j.Sync(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // the first is in its fsync
		appended := make(chan struct{}, callers)
		for i := range callers {
			all.Go(func() {
				appendAll(j, fmt.Sprint(i))
				appended <- struct{}{}
				if err := j.Sync(); err != nil {
					t.Error(err)
				}
			})
		}
		for range callers {
			<-appended
		}
		close(slow.release)
		all.Wait()
		if slow.syncs > 3 { // one caller may have appended and not yet be waiting
			t.Errorf("%d callers took %d syncs", callers, slow.syncs)
		}
		if got := replayed(t, m.CrashLosing()); len(got) != callers+1 || got[0] != "first" {
			t.Errorf("%d records replayed, want %d", len(got), callers+1)
		}
	})
}

func TestJournalSyncWithNothingToDoTouchesNothing(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	appendAll(j, "a")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	before := m.Ops()
	if err := j.Sync(); err != nil || m.Ops() != before {
		t.Errorf("%d operations, %v", m.Ops()-before, err)
	}
}

func TestJournalIsSafeForConcurrentUse(t *testing.T) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 50 {
				appendAll(j, fmt.Sprintf("%d:%03d", w, i))
				var err error
				switch i % 3 {
				case 0:
					err = j.Sync()
				case 1:
					err = j.Flush()
				}
				if err != nil || j.Size() <= 0 {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	got := replayed(t, m.CrashLosing())
	if len(got) != 400 {
		t.Fatalf("%d records, want 400", len(got))
	}
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
	if !slices.IsSorted(got) {
		t.Error("the records of one goroutine are out of order")
	}
}
