package disk_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// A history is what a test did to a journal: all that it ever should have
// held, and how much of that was promised.
type history struct {
	before   []string // what a rewrite that has not returned would replace
	records  []string
	promised int // of records
}

// allows says why got cannot be what a crash leaves of h, or "".
func (h history) allows(got []string) string {
	if h.before != nil && slices.Equal(got, h.before) {
		return "" // the rewrite did not happen
	}
	if len(got) < h.promised {
		return fmt.Sprintf("%d records, %d were promised", len(got), h.promised)
	}
	if len(got) > len(h.records) || !slices.Equal(got, h.records[:len(got)]) {
		return "no prefix of what was appended"
	}
	return ""
}

// work uses a journal in all ways, and keeps book.
func (h *history) work(m disk.FS) error {
	j, _, err := openJournal(m)
	if err != nil {
		return err
	}
	add := func(n, size int) {
		for range n {
			r := strings.Repeat(fmt.Sprintf("%d,", len(h.records)), size)
			h.records = append(h.records, r)
			j.Append([]byte(r))
		}
	}
	promise := func(err error) error {
		if err == nil {
			h.promised = len(h.records)
		}
		return err
	}
	add(3, 1)
	if err := promise(j.Sync()); err != nil {
		return err
	}
	add(5, 100) // of several sectors
	if err := j.Flush(); err != nil {
		return err
	}
	add(2, 7)
	if err := j.Flush(); err != nil {
		return err
	}
	if err := promise(j.Sync()); err != nil {
		return err
	}
	add(40, 9)
	if err := promise(j.Sync()); err != nil {
		return err
	}
	h.before, h.records, h.promised = h.records, []string{"rewritten", strings.Repeat("r", 3000), "end"}, 3
	if err := j.Rewrite(sequence(h.records...)); err != nil {
		return err
	}
	h.before = nil
	add(10, 200)
	if err := promise(j.Sync()); err != nil {
		return err
	}
	add(3, 50)
	return promise(j.Close())
}

// Promise: after a power cut at any moment, the journal has every record that
// was synced, in order, and behind these only records that were appended, in
// order and without a gap; it never takes a torn tail for damage.
func TestJournalSurvivesACrashAtEveryOperation(t *testing.T) {
	seeds := uint64(60)
	if os.Getenv("HOLDFAST_SOAK") != "" {
		seeds = 5000
	}
	for at := 1; ; at++ {
		m := disktest.NewMem()
		var h history
		changes := 0
		m.SetHook(func(op disktest.Op) error {
			if !op.Kind.Changes() {
				return nil
			}
			if changes++; changes == at {
				return &disktest.Short{N: int(op.Len) * 2 / 3, Err: disktest.ErrCrashed}
			}
			return nil
		})
		if err := h.work(m); err != nil && !errors.Is(err, disktest.ErrCrashed) {
			t.Fatalf("crash at change %d: %v", at, err)
		}
		for seed := range seeds {
			checkCrashed(t, m.Crash(seed), h, fmt.Sprintf("crash at change %d, seed %d", at, seed))
		}
		checkCrashed(t, m.CrashLosing(), h, fmt.Sprintf("crash at change %d, all lost", at))
		checkCrashed(t, m.CrashKeeping(), h, fmt.Sprintf("crash at change %d, all kept", at))
		if changes < at {
			return
		}
	}
}

// checkCrashed checks what woke up, works on, and crashes and checks again.
func checkCrashed(t *testing.T, m *disktest.Mem, h history, when string) {
	t.Helper()
	j, got, err := openJournal(m)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if why := h.allows(got); why != "" {
		t.Fatalf("%s: %s", when, why)
	}
	// What was cut off must not come back behind newer records, even if these
	// are just as long as those that were lost.
	again := history{records: slices.Clone(got), promised: len(got)}
	for i := range 8 {
		n := 20
		if at := len(got) + i; at < len(h.records) {
			n = len(h.records[at])
		}
		again.records = append(again.records, strings.Repeat("n", n))
	}
	for _, r := range again.records[len(got):] {
		j.Append([]byte(r))
		if err := j.Flush(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	_, got, err = openJournal(m.Crash(uint64(len(got))))
	if err != nil {
		t.Fatalf("%s, and again: %v", when, err)
	}
	if why := again.allows(got); why != "" {
		t.Fatalf("%s, and again: %s", when, why)
	}
}

// journalOf returns a file system with a journal of these batches, each synced
// by itself, whose process was killed.
func journalOf(t *testing.T, batches ...[]string) *disktest.Mem {
	t.Helper()
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	for _, b := range batches {
		appendAll(j, b...)
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return m.CrashKeeping()
}

func TestJournalTellsDamageFromATornTail(t *testing.T) {
	const head, record = 32, 24 + 4 // of file and of a record of 4 bytes
	batches := [][]string{{"aaa0", "aaa1", "aaa2"}, {"bbb0", "bbb1", "bbb2"}}
	for _, row := range []struct {
		name    string
		damage  func(m *disktest.Mem)
		want    int   // records replayed
		damaged int64 // offset of a JournalError; 0: none
	}{
		{"nothing is wrong", func(*disktest.Mem) {}, 6, 0},
		{"the last byte is missing", func(m *disktest.Mem) { m.TruncateFile(journalName, head+6*record-1) }, 5, 0},
		{"only the head of a record is there", func(m *disktest.Mem) { m.TruncateFile(journalName, head+5*record+24) }, 5, 0},
		{"a part of a head is there", func(m *disktest.Mem) { m.TruncateFile(journalName, head+5*record+3) }, 5, 0},
		{"the last batch is missing", func(m *disktest.Mem) { m.TruncateFile(journalName, head+3*record) }, 3, 0},
		{"everything is missing", func(m *disktest.Mem) { m.TruncateFile(journalName, head) }, 0, 0},
		{"zeros follow", func(m *disktest.Mem) { m.WriteRaw(journalName, head+6*record, make([]byte, 5000)) }, 6, 0},
		{"other bytes follow", func(m *disktest.Mem) { m.WriteRaw(journalName, head+6*record, []byte(strings.Repeat("~!", 5000))) }, 6, 0},
		{"a copy of a record follows", func(m *disktest.Mem) {
			m.WriteRaw(journalName, head+6*record, m.Bytes(journalName)[head:head+record])
		}, 6, 0},
		{"the last batch landed out of order", func(m *disktest.Mem) { m.WriteRaw(journalName, head+3*record, make([]byte, record)) }, 3, 0},
		{"a bit of the last record flipped", func(m *disktest.Mem) { m.FlipBit(journalName, head+6*record-1) }, 5, 0},
		{"a bit flipped in a payload that was durable", func(m *disktest.Mem) { m.FlipBit(journalName, head+2*record-1) }, 1, head + record},
		{"a bit flipped in a length that was durable", func(m *disktest.Mem) { m.FlipBit(journalName, head+record) }, 1, head + record},
		{"the first record became zeros", func(m *disktest.Mem) { m.WriteRaw(journalName, head, make([]byte, record)) }, 0, head},
		{"the header is damaged", func(m *disktest.Mem) { m.FlipBit(journalName, 17) }, 0, -1},
		{"the magic is damaged", func(m *disktest.Mem) { m.FlipBit(journalName, 0) }, 0, -1},
		{"the file is empty", func(m *disktest.Mem) { m.TruncateFile(journalName, 0) }, 0, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := journalOf(t, batches...)
			row.damage(m)
			before := m.Bytes(journalName)
			_, got, err := openJournal(m)
			if all := slices.Concat(batches...); !slices.Equal(got, all[:row.want]) {
				t.Errorf("replayed %q, want %q", got, all[:row.want])
			}
			var damaged *disk.JournalError
			switch {
			case row.damaged == 0 && err != nil:
				t.Errorf("error %v, want none", err)
			case row.damaged == 0:
				if again := replayed(t, m); !slices.Equal(again, got) {
					t.Errorf("replayed %q, and then %q", got, again)
				}
			case !errors.As(err, &damaged):
				t.Errorf("error %v, want a JournalError", err)
			case damaged.Offset != max(0, row.damaged) || damaged.Hint() == "" ||
				!strings.Contains(err.Error(), fmt.Sprintf("%s: damage at offset %d: ", journalName, damaged.Offset)):
				t.Errorf("error %#v, want one for offset %d", damaged, row.damaged)
			case !slices.Equal(m.Bytes(journalName), before):
				t.Error("the damaged file was changed")
			}
		})
	}
}

// The first thing a process does is to make durable what it found, so its
// records vouch for those of the process before.
func TestJournalVouchesForWhatItFound(t *testing.T) {
	m := journalOf(t, []string{"aaa"})
	j, _ := mustOpen(t, m)
	appendAll(j, "bbb")
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	m.FlipBit(journalName, 32)
	if _, _, err := openJournal(m); !errors.As(err, new(*disk.JournalError)) {
		t.Errorf("a record of the process before is damaged: error %v", err)
	}
}

// A mark behind the last records vouches for them.
func TestJournalThatWasEndedInOrderNoticesAllDamage(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(*disktest.Mem, *disk.Journal) error
	}{
		{"closed", func(_ *disktest.Mem, j *disk.Journal) error {
			appendAll(j, "aaa", "bbb", "ccc")
			return j.Close()
		}},
		{"closed, opened, appended to, and closed", func(m *disktest.Mem, j *disk.Journal) error {
			appendAll(j, "aaa")
			if err := j.Close(); err != nil {
				return err
			}
			j, _, err := openJournal(m)
			if err != nil {
				return err
			}
			appendAll(j, "bbb")
			return j.Close()
		}},
		{"rewritten", func(_ *disktest.Mem, j *disk.Journal) error { return j.Rewrite(sequence("aaa", "bbb", "ccc")) }},
		{"opened and closed without a change", func(_ *disktest.Mem, j *disk.Journal) error {
			return errors.Join(j.Rewrite(sequence("aaa", "bbb", "ccc")), j.Close())
		}},
	} {
		for off := int64(0); off < 32+2*27; off++ {
			m := disktest.NewMem()
			j, _ := mustOpen(t, m)
			if err := row.end(m, j); err != nil {
				t.Fatal(err)
			}
			m.FlipBit(journalName, off) // of the header, or of the first two records
			if _, _, err := openJournal(m); err == nil {
				t.Errorf("%s, bit flipped at %d: not noticed", row.name, off)
			}
		}
	}
}

func TestJournalDoesNotGrowWhenNothingIsAppended(t *testing.T) {
	m := journalOf(t, []string{"a"})
	replayed(t, m)
	size := len(m.Bytes(journalName))
	replayed(t, m)
	if got := len(m.Bytes(journalName)); got != size {
		t.Errorf("%d bytes after another open and close, before %d", got, size)
	}
}

func TestJournalRefusesANewerFormatWithoutCallingItDamage(t *testing.T) {
	m := journalOf(t, []string{"a"})
	b := m.Bytes(journalName)[:32]
	b[8] = 2
	m.WriteRaw(journalName, 0, disk.ResumHeader(b))
	_, _, err := openJournal(m)
	var hinted interface{ Hint() string }
	if errors.As(err, new(*disk.JournalError)) || !errors.As(err, &hinted) || !strings.Contains(err.Error(), "format 2") || hinted.Hint() == "" {
		t.Errorf("error %v, want one with a hint that is no JournalError", err)
	}
}

// A file of another journal, or of an earlier one of this name, says nothing
// here: neither its records nor its tail.
func TestJournalIgnoresRecordsOfAnotherIncarnation(t *testing.T) {
	a, b := journalOf(t, []string{"aaa", "bbb", "ccc"}), journalOf(t, []string{"xxx"})
	old := a.Bytes(journalName)
	b.WriteRaw(journalName, int64(len(b.Bytes(journalName))), old[len(b.Bytes(journalName)):])
	if got := replayed(t, b); !slices.Equal(got, []string{"xxx"}) {
		t.Errorf("replayed %q, want only the record of this file", got)
	}
}
