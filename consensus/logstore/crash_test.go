package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// A power cut at any write of any change leaves the state before it or the
// state after it. bbolt writes the pages that changed, syncs, writes one of
// two meta pages, syncs; so a crash leaves any of the former without the
// latter, or all of them with the latter in part.
func TestPowerCutAtEveryWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "raft.db")
	s := openTest(t, path)
	changes := []func() error{
		func() error { return s.SetUint64([]byte("CurrentTerm"), 1) },
		func() error { return s.StoreLog(entry(1, 1)) },
		func() error { s.StageCommitIndex(1); return s.StoreLogs([]*raft.Log{entry(2, 1), entry(3, 1)}) },
		func() error { return s.Applied(3) },
		func() error { return s.StoreLogs(many(4, 60)) },
		func() error { return s.DeleteRange(40, 63) },
		func() error { return s.DeleteRange(1, 20) },
		func() error { return s.SetUint64([]byte("CurrentTerm"), 2) },
		func() error { return s.StoreLogs(many(40, 90)) },
		func() error { return s.DeleteRange(21, 129) },
	}
	rng := rand.New(rand.NewPCG(1, 0))
	images := 0
	for i, change := range changes {
		before, was := readFile(t, path), describe(t, s)
		if err := change(); err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		after, is := readFile(t, path), describe(t, s)
		for _, image := range crashImages(rng, before, after) {
			images++
			crashed := filepath.Join(dir, "crashed")
			if err := os.WriteFile(crashed, image.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Open(Config{Path: crashed, NoSync: true})
			if err != nil {
				t.Fatalf("change %d, %s: %v", i, image.what, err)
			}
			got := describe(t, c)
			c.Close()
			if got != was && (got != is || !image.done) {
				t.Fatalf("change %d, %s: there is %s, want %s or %s", i, image.what, got, was, is)
			}
		}
	}
	s.Close()
	t.Logf("%d images", images)
}

func many(from, n uint64) (logs []*raft.Log) {
	for i := range n {
		l := entry(from+i, 2)
		l.Data = bytes.Repeat(l.Data, 9)
		logs = append(logs, l)
	}
	return logs
}

type image struct {
	what  string
	bytes []byte
	done  bool // whether the change may be there
}

// crashImages are the files that a crash between before and after can leave.
func crashImages(rng *rand.Rand, before, after []byte) (all []image) {
	page, sector := os.Getpagesize(), 512
	var pages []int
	meta := -1
	for at := 0; at < len(after); at += page {
		switch changed := !bytes.Equal(slice(before, at, page), slice(after, at, page)); {
		case changed && at < 2*page:
			meta = at
		case changed:
			pages = append(pages, at)
		}
	}
	written := append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
	for i := 0; i <= len(pages); i++ { // in order, in part
		all = append(all, image{fmt.Sprintf("%d of %d pages", i, len(pages)), bytes.Clone(written), false})
		if i < len(pages) {
			copy(written[pages[i]:], slice(after, pages[i], page))
		}
	}
	for range 5 { // in any order
		some := append(bytes.Clone(before), make([]byte, len(after)-len(before))...)
		for _, at := range pages {
			if rng.IntN(2) == 0 {
				copy(some[at:], slice(after, at, page))
			}
		}
		all = append(all, image{"some pages", some, false})
	}
	if meta >= 0 {
		for n := sector; n <= page; n += sector {
			torn := bytes.Clone(written)
			copy(torn[meta:], after[meta:meta+n])
			all = append(all, image{fmt.Sprintf("%d bytes of the meta page", n), torn, true})
		}
	}
	return all
}

func slice(b []byte, at, n int) []byte {
	if at >= len(b) {
		return nil
	}
	return b[at:min(at+n, len(b))]
}

// describe is all that a store holds.
func describe(t *testing.T, s *Store) string {
	t.Helper()
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	commit, err3 := s.GetCommitIndex()
	term, err4 := s.GetUint64([]byte("CurrentTerm"))
	if err4 != nil && err4.Error() == "not found" {
		err4 = nil
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("entries %d to %d, commit %d, term %d:", first, last, commit, term)
	for i := first; i != 0 && i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" %d/%d/%d", l.Index, l.Term, len(l.Data))
	}
	return text
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
