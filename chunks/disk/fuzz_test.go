package disk_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// FuzzJournal damages a journal at will. Property: what is replayed is a
// prefix of what was written; nothing else ever is; a file that opens once
// opens again and says the same; one that is called damaged is not changed.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("\x03abc\x00\x05hello"), int64(40), []byte("x"), int64(1000))
	f.Add([]byte("\x01a\x01b\x01c"), int64(32), make([]byte, 24), int64(90))
	f.Add([]byte("\x01a\x01b\x01c"), int64(57), make([]byte, 24), int64(1<<40))
	f.Add([]byte("\xff\x02ab\x02cd"), int64(0), []byte("HOLDJRNL"), int64(31))
	f.Add([]byte(""), int64(32), []byte("\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), int64(44))
	f.Fuzz(func(t *testing.T, script []byte, off int64, damage []byte, size int64) {
		m, want := scripted(t, script)
		length := int64(len(m.Bytes(journalName)))
		m.WriteRaw(journalName, max(0, off%(length+1)), damage)
		if now := int64(len(m.Bytes(journalName))); size >= 0 && size < now {
			m.TruncateFile(journalName, size)
		}
		before := m.Bytes(journalName)
		j, got, err := openJournal(m)
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("replayed %q, written was %q", got, want)
		}
		if err != nil {
			if j != nil || !slices.Equal(m.Bytes(journalName), before) {
				t.Errorf("failed with %v and changed the file", err)
			}
			return
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if again := replayed(t, m); !slices.Equal(again, got) {
			t.Errorf("replayed %q, and then %q", got, again)
		}
	})
}

// scripted writes a journal: each byte of script is a length, the payload
// follows, 0xff is a sync.
func scripted(t *testing.T, script []byte) (*disktest.Mem, []string) {
	m := disktest.NewMem()
	j, _ := mustOpen(t, m)
	var want []string
	for len(script) > 0 {
		if script[0] == 0xff {
			if err := j.Sync(); err != nil {
				t.Fatal(err)
			}
			script = script[1:]
			continue
		}
		n := 1 + min(int(script[0]), len(script)-1)
		want = append(want, string(script[1:n]))
		j.Append(script[1:n])
		script = script[n:]
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	return m, want
}

// FuzzJournalOfStrangers opens files that no journal wrote, under a header
// that is right. Property: it never panics, replays nothing (a record has to
// have the sum of this file, which a stranger does not guess), and what it
// accepts is an empty journal then.
func FuzzJournalOfStrangers(f *testing.F) {
	f.Add([]byte("hello"), false)
	f.Add([]byte("hello"), true)
	f.Add(make([]byte, 100), true)
	f.Add([]byte("HOLDJRNL\x01\x00\x00\x00\x00\x00\x00\x00saltsalt\x00\x00\x00\x00\x00\x00\x00\x00"), false)
	f.Fuzz(func(t *testing.T, body []byte, proper bool) {
		m, _ := scripted(t, nil)
		if proper {
			m.WriteRaw(journalName, 32, body)
		} else {
			m.TruncateFile(journalName, 0)
			m.WriteRaw(journalName, 0, body)
		}
		_, got, err := openJournal(m)
		if len(got) > 0 {
			t.Errorf("replayed %q", got)
		}
		if proper && err != nil {
			t.Errorf("an unknown tail is not damage: %v", err)
		}
		if !proper && !errors.As(err, new(*disk.JournalError)) {
			t.Errorf("a file without a header: %v", err)
		}
	})
}
