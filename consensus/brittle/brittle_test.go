package brittle

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/logstore"
)

// Raft removes the beginning of a log that a snapshot has, all of it when the leader
// sends a snapshot, and the end that the leader does not have: only the last may be
// wrong, and is if it was agreed on.
func TestWhatMayBeRemoved(t *testing.T) {
	open := func(t *testing.T, installed bool) *Store {
		log, err := logstore.Open(logstore.Config{Path: t.TempDir() + "/log.db", NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { log.Close() })
		s, err := New(log, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := uint64(1); i <= 10; i++ {
			if err := s.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Applied(6); err != nil {
			t.Fatal(err)
		}
		if s, err = New(log, 0); err != nil { // the next life knows it from the disk
			t.Fatal(err)
		}
		if installed {
			s.Installed()
		}
		return s
	}
	for name, c := range map[string]struct {
		low, high uint64
		installed bool
		taken     bool
	}{
		"the beginning":                {1, 4, false, false},
		"all but the last":             {1, 9, false, false},
		"an end that was not agreed":   {7, 10, false, false},
		"an end that was":              {6, 10, false, true},
		"all":                          {1, 10, false, true},
		"all, for a snapshot":          {1, 10, true, false},
		"the beginning, for another":   {1, 4, true, false},
		"what is behind it, once more": {7, 10, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, c.installed)
			err := s.DeleteRange(c.low, c.high)
			var taken *TakenBackError
			if errors.As(err, &taken) != c.taken || err != nil != c.taken {
				t.Fatal(err)
			}
			if !c.taken {
				return
			}
			if *taken != (TakenBackError{c.low, 6}) || s.StoreLog(&raft.Log{Index: 11}) == nil || !errors.As(<-s.Failed, &taken) {
				t.Errorf("%v, and life goes on", taken)
			}
			if last, err := s.LastIndex(); last != 10 || err != nil {
				t.Errorf("entry %d is the last, %v", last, err)
			}
		})
	}

	s := open(t, true)
	if err := errors.Join(s.StoreLog(&raft.Log{Index: 11, Term: 1})); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, 11); err == nil {
		t.Error("a snapshot of long ago excuses it")
	}
}

// A leader's snapshot took the place of entries that were agreed on and that it does
// not have, without a word: raft compares nothing then.
func TestSnapshotOfAnotherHistory(t *testing.T) {
	open := func(t *testing.T, verify error) (Snapshots, *Store) {
		log, err := logstore.Open(logstore.Config{Path: t.TempDir() + "/log.db", NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { log.Close() })
		s, err := New(log, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := uint64(4); i <= 10; i++ { // the beginning is in a snapshot
			if err := s.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Applied(8); err != nil {
			t.Fatal(err)
		}
		return Snapshots{SnapshotStore: raft.NewInmemSnapshotStore(), Verify: func([]byte) error { return verify }, Max: 10, Disk: s}, s
	}
	departure := error(&TakenBackError{5, 8}) // as a machine may say
	for name, c := range map[string]struct {
		index, term uint64
		verify      error
		want        error
	}{
		"the same history":                   {8, 2, nil, nil},
		"another one":                        {7, 3, nil, &TakenBackError{7, 8}},
		"over what was not agreed on":        {9, 3, nil, nil},
		"beyond the end":                     {99, 3, nil, nil},
		"beyond the end, of another":         {99, 3, departure, departure},
		"one that is bad, but not of others": {8, 2, errors.New("no signature"), nil},
		"of what the log has no more":        {3, 1, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			snaps, s := open(t, c.verify)
			sink, err := snaps.Create(1, c.index, c.term, raft.Configuration{}, 1, nil)
			if err == nil {
				_, err = sink.Write([]byte("state"))
				err = errors.Join(err, sink.Close())
			}
			if (err != nil) != (c.want != nil || c.verify != nil) {
				t.Errorf("%v", err)
			}
			select {
			case failed := <-s.Failed:
				if c.want == nil || failed.Error() != c.want.Error() {
					t.Errorf("the life ends: %v, want %v", failed, c.want)
				}
			default:
				if c.want != nil {
					t.Error("the life goes on")
				}
			}
		})
	}
}
