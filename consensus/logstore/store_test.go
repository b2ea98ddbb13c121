package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func openTest(t interface {
	Helper()
	Fatal(...any)
}, path string) *Store {
	t.Helper()
	s, err := Open(Config{Path: path, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func entry(index, term uint64) *raft.Log {
	return &raft.Log{
		Index: index, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "command %d of term %d", index, term),
		Extensions: []byte("x")[:index%2], AppendedAt: time.Unix(1e9, int64(index)),
	}
}

// The directory of a node was removed while it ran: it went on to vote, and was made a
// voter, with a file that nobody could ever read again.
func TestRemovedWhileInUse(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
	} {
		path := filepath.Join(t.TempDir(), "raft.db")
		s := openTest(t, path)
		must(t, s.StoreLog(entry(1, 7)), spoil(path))
		for what, err := range map[string]error{
			"an entry": s.StoreLog(entry(2, 7)), "a term": s.SetUint64([]byte("CurrentTerm"), 8), "a vote": s.Set([]byte("who"), nil),
			"what is applied": s.Applied(1), "a removal": s.DeleteRange(1, 1),
		} {
			if !errors.Is(err, ErrGone) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		must(t, s.Close())
	}
}

func TestStoreSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := openTest(t, path)
	for i := uint64(1); i <= 3; i++ {
		if err := s.StoreLog(entry(i, 7)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.Set([]byte("who"), []byte("dc-1")), s.Applied(2), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path)
	defer s.Close()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	commit, _ := s.GetCommitIndex()
	term, err := s.GetUint64([]byte("CurrentTerm"))
	who, err2 := s.Get([]byte("who"))
	if first != 1 || last != 3 || commit != 2 || term != 7 || string(who) != "dc-1" || err != nil || err2 != nil {
		t.Errorf("first %d, last %d, commit %d, term %d, who %q, %v, %v", first, last, commit, term, who, err, err2)
	}
	var got raft.Log
	if err := s.GetLog(3, &got); err != nil || !same(got, *entry(3, 7)) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.GetLog(4, &got); err != raft.ErrLogNotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err := s.GetUint64([]byte("nothing")); err == nil || err.Error() != "not found" {
		t.Errorf("a value that is not there: %v", err)
	}
}

func same(a, b raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}

func TestCommitIndexNeverOverstates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := openTest(t, path)
	commit := func() uint64 {
		t.Helper()
		n, err := s.GetCommitIndex()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.StageCommitIndex(9)
	if commit() != 0 {
		t.Error("a staged index counts before it is stored")
	}
	if err := s.StoreLogs([]*raft.Log{entry(1, 1), entry(2, 1)}); err != nil || commit() != 2 {
		t.Errorf("commit index %d with two entries, %v", commit(), err)
	}
	s.StageCommitIndex(1)
	if err := s.StoreLog(entry(3, 1)); err != nil || commit() != 2 {
		t.Errorf("it went back to %d, %v", commit(), err)
	}
	if err := errors.Join(s.Applied(3), s.Applied(1)); err != nil || commit() != 3 {
		t.Errorf("commit index %d after applying 3, %v", commit(), err)
	}
	s.Close()
	s = openTest(t, path)
	defer s.Close()
	if commit() != 3 {
		t.Errorf("commit index %d after reopening", commit())
	}
	if err := s.DeleteRange(1, 3); err != nil || commit() != 0 {
		t.Errorf("commit index %d of an empty log, %v", commit(), err)
	}
}

func TestLogHasNoHoles(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "raft.db"))
	defer s.Close()
	if err := s.StoreLog(entry(5, 1)); err != nil { // behind a snapshot it may begin anywhere
		t.Fatal(err)
	}
	for _, index := range []uint64{4, 5, 7} {
		if err := s.StoreLogs([]*raft.Log{entry(index, 2)}); err == nil {
			t.Errorf("entry %d was stored behind entry 5", index)
		}
	}
	if err := s.StoreLogs([]*raft.Log{entry(6, 2), entry(8, 2)}); err == nil {
		t.Error("a batch with a hole was stored")
	}
	if last, _ := s.LastIndex(); last != 5 {
		t.Errorf("a refused batch left entry %d", last)
	}
}

func TestRefusesWhatItMayNotUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := openTest(t, path)
	_, err := Open(Config{Path: path})
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("opened twice: %v", err)
	}
	s.Close()
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a log"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(Config{Path: path}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another file: %v", err)
	}
}

// A flipped bit anywhere must be noticed, or be in a part of the file that
// means nothing.
func TestFlippedBitsAreNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := openTest(t, path)
	for i := uint64(1); i <= 20; i++ {
		if err := s.StoreLog(entry(i, 3)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for at := bytes.Index(good, []byte("command")); at < len(good); at += 997 {
		bad := bytes.Clone(good)
		bad[at] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Path: path, NoSync: true})
		if err != nil {
			noticed++
			continue
		}
		for i := uint64(1); i <= 20; i++ {
			var got raft.Log
			if err := s.GetLog(i, &got); err != nil || !same(got, *entry(i, 3)) {
				t.Errorf("a bit at %d changes entry %d: %v", at, i, err)
			}
		}
		s.Close()
	}
	if noticed == 0 {
		t.Error("no flipped bit was noticed")
	}
}

// A file that was cut off, or has pages from somewhere else, is an error, whichever
// it is. (bbolt looked at such pages in a goroutine of its own, whose panic ended
// the node: no backups at that site.)
func TestDamagedPagesAreNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := openTest(t, path)
	must(t, s.SetUint64([]byte("CurrentTerm"), 7))
	for from := uint64(1); from < 400; from += 40 {
		must(t, s.StoreLogs(many(from, 40)))
	}
	want := describe(t, s)
	s.Close()
	good := readFile(t, path)
	page := os.Getpagesize()
	rng := rand.New(rand.NewPCG(1, 2))
	images := map[string][]byte{}
	for at := 0; at < len(good); at += page {
		images[fmt.Sprint("cut off at ", at)] = good[:at]
		for _, pages := range []int{1, 6} {
			noise, zero, moved := bytes.Clone(good), bytes.Clone(good), bytes.Clone(good)
			for i := at; i < min(at+pages*page, len(good)); i++ {
				noise[i], zero[i] = byte(rng.Uint32()), 0
				moved[i] = good[(i+3*page)%len(good)]
			}
			images[fmt.Sprintf("noise in %d pages at %d", pages, at)] = noise
			images[fmt.Sprintf("no bits in %d pages at %d", pages, at)] = zero
			images[fmt.Sprintf("other pages in %d at %d", pages, at)] = moved
		}
	}
	noticed := 0
	for what, image := range images {
		must(t, os.WriteFile(path, image, 0o600))
		s, err := Open(Config{Path: path, NoSync: true})
		if err != nil {
			if noticed++; !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if got := describe(t, s); got != want && len(image) > 0 && !strings.Contains(what, "at 0") && !strings.Contains(what, fmt.Sprint("at ", page)) {
			t.Errorf("%s: there is %.200s", what, got)
		}
		s.Close()
	}
	t.Logf("%d of %d noticed", noticed, len(images))
	if noticed < len(images)/3 { // the other pages are free
		t.Errorf("%d of %d noticed", noticed, len(images))
	}
}

// The store does what raft's own store in memory does.
func TestStoreLikeItsModel(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		s, model := openTest(rt, path), raft.NewInmemStore()
		defer func() { s.Close() }()
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			first, _ := model.FirstIndex()
			last, _ := model.LastIndex()
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				var batch []*raft.Log
				for i := range rapid.Uint64Range(1, 9).Draw(rt, "entries") {
					batch = append(batch, entry(last+1+i, rapid.Uint64Range(1, 9).Draw(rt, "term")))
				}
				if err := errors.Join(s.StoreLogs(batch), model.StoreLogs(batch)); err != nil {
					rt.Fatal(err)
				}
			case 2:
				if last > first {
					low := rapid.Uint64Range(first, last).Draw(rt, "low")
					if err := errors.Join(s.DeleteRange(low, last), model.DeleteRange(low, last)); err != nil {
						rt.Fatal(err)
					}
				}
			case 3:
				if last > first {
					high := rapid.Uint64Range(first, last-1).Draw(rt, "high")
					if err := errors.Join(s.DeleteRange(first, high), model.DeleteRange(first, high)); err != nil {
						rt.Fatal(err)
					}
				}
			case 4:
				s.Close()
				s = openTest(rt, path)
			}
			compareStores(rt, s, model)
		}
	})
}

func compareStores(t *rapid.T, s *Store, model *raft.InmemStore) {
	t.Helper()
	first, _ := model.FirstIndex()
	last, _ := model.LastIndex()
	f, _ := s.FirstIndex()
	l, _ := s.LastIndex()
	if last < first || last == 0 { // the model does not forget where an empty log was
		if f != l {
			t.Fatalf("%d to %d, want nothing", f, l)
		}
		return
	}
	if f != first || l != last {
		t.Fatalf("%d to %d, want %d to %d", f, l, first, last)
	}
	for i := first; i <= last; i++ {
		var a, b raft.Log
		if err := errors.Join(s.GetLog(i, &a), model.GetLog(i, &b)); err != nil || !same(a, b) {
			t.Fatalf("entry %d: %+v, want %+v, %v", i, a, b, err)
		}
	}
}
