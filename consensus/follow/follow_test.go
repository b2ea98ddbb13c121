package follow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A source has entries from first on, and a state of what was before.
type source struct {
	first, applied uint64
	leader         string
}

func (s *source) Progress() (uint64, <-chan struct{}, error) { return s.applied, nil, nil }

func (s *source) After(index, applied uint64, most, _ int) (all []Entry, known bool, err error) {
	for index++; index <= applied && len(all) < most; index++ {
		all = append(all, Entry{Index: index, Term: 1, Data: fmt.Append(nil, index)})
	}
	return all, len(all) > 0 && all[0].Index >= s.first, nil
}

func (s *source) Snapshot() ([]byte, Entry, error) {
	return bytes.Repeat([]byte{7}, 3*size/2), Entry{Index: s.applied, Term: 1}, nil
}

func (s *source) News() News { return News{Leader: s.leader} }

// A sink notes what it is given.
type sink struct {
	at       uint64
	noted    []uint64
	entries  []uint64
	restored int
	heard    News
	refuse   error
}

func (s *sink) Applied() uint64 { return s.at }

func (s *sink) Note(entries []Entry) error {
	for _, e := range entries {
		s.noted = append(s.noted, e.Index)
	}
	return nil
}

func (s *sink) Apply(e Entry) error {
	if !slices.Contains(s.noted, e.Index) {
		return errors.New("it was not noted before")
	}
	s.at = max(s.at, e.Index)
	s.entries = append(s.entries, e.Index)
	return s.refuse
}

func (s *sink) Restore(state []byte, at Entry) error {
	s.restored, s.at = len(state), at.Index
	return s.refuse
}
func (s *sink) Heard(n News) error { s.heard = n; return nil }

func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from     uint64
		source   source
		entries  int
		restored int
	}{
		{"in step", 5, source{1, 5, "a"}, 0, 0},
		{"a little behind", 5, source{1, 405, "a"}, 400, 0},
		{"far behind", 0, source{1, far + 1, "a"}, 0, 3 * size / 2},
		{"what it lacks is not in the log", 5, source{8, 10, "a"}, 0, 3 * size / 2},
		{"ahead", 5, source{1, 3, "a"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				ctx, stop := context.WithCancel(t.Context())
				served, followed := make(chan error, 1), make(chan error, 1)
				s := &sink{at: tt.from}
				go func() { served <- Serve(ctx, a, tt.from, &tt.source) }()
				go func() { followed <- Follow(b, s) }()
				time.Sleep(time.Minute + time.Second) // nothing happens, and the stream lives
				stop()
				synctest.Wait()
				a.Close()
				if err := <-served; err != nil {
					t.Error(err)
				}
				if err := <-followed; err == nil {
					t.Error("a stream that has ended is no error")
				}
				if len(s.entries) != tt.entries || s.restored != tt.restored || s.heard.Leader != "a" || !slices.IsSorted(s.entries) {
					t.Errorf("%d entries, %d bytes of state, %+v", len(s.entries), s.restored, s.heard)
				}
			})
		})
	}
}

// A source that says nothing is left.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := net.Pipe()
		began := time.Now()
		if err := Follow(b, &sink{}); err == nil || time.Since(began) != Silence {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func frame(u update) []byte {
	b := canon.Encode(u)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// A stream that skips, repeats or never ends is not taken.
func TestHostile(t *testing.T) {
	endless := bytes.Repeat(frame(update{Part: make([]byte, size)}), MaxSnapshot/size+1)
	for _, tt := range []struct {
		name string
		sent []byte
		want error
	}{
		{"it skips what is not here", frame(update{Behind: 9, Entries: []Entry{{Index: 10}}}), errStream},
		{"it goes back", frame(update{Behind: 5, Entries: []Entry{{Index: 5}}}), errStream},
		{"out of order", frame(update{Behind: 5, Entries: []Entry{{Index: 7}, {Index: 6}}}), errStream},
		{"an endless snapshot", endless, errStream},
		{"an endless update", []byte{255, 255, 255, 255}, errStream},
		{"no update", []byte{0, 0, 0, 1, 0}, errStream},
		{"an entry that is refused", frame(update{Behind: 5, Entries: []Entry{{Index: 6}}}), errRefused},
		{"a state that is refused", frame(update{Part: []byte{1}, State: &Entry{Index: 9}}), errRefused},
	} {
		a, b := net.Pipe()
		go func() { a.Write(tt.sent); a.Close() }()
		s := &sink{at: 5, refuse: errRefused}
		if tt.want == errStream {
			s.refuse = nil
		}
		if err := Follow(b, s); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		b.Close()
	}
}

var errRefused = errors.New("the machine refuses it")

// What was noted is read again, and what another has written there is no command.
func TestNoted(t *testing.T) {
	s := raft.NewInmemStore()
	if got, err := Noted(s); err != nil || got != nil {
		t.Errorf("in the beginning: %v, %v", got, err)
	}
	want := []Entry{{Index: 7, Term: 2, Data: []byte("x")}, {Index: 9, Term: 3, Data: []byte("y")}}
	if err := Note(s, want); err != nil {
		t.Fatal(err)
	}
	if got, err := Noted(s); err != nil || !slices.EqualFunc(got, want, func(a, b Entry) bool { return string(canon.Encode(a)) == string(canon.Encode(b)) }) {
		t.Errorf("%v, %v", got, err)
	}
	b, err := s.Get(journalKey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if got, err := Noted(noted(damaged)); err == nil || got != nil {
			t.Fatalf("damaged at %d: %v, %v", i, got, err)
		}
	}
	if err := Note(s, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := Noted(s); err != nil || got != nil {
		t.Errorf("in the end: %v, %v", got, err)
	}
}

// What was noted stays until the state that has it is stored: of an entry that the machine
// did not take the state is that of another one, and then nothing was stored. It was
// forgotten, and with it up to a minute of what was acknowledged.
func TestNotedUntilKept(t *testing.T) {
	store := raft.NewInmemStore()
	var applied uint64
	var keeps error
	f := New(Config{
		Store: store, Applied: func() uint64 { return applied }, Apply: func(e Entry) error { applied = e.Index; return nil },
		InGroup: func() bool { return false }, Keep: func(Entry, raft.Configuration, uint64) error { return keeps },
		Log: slog.New(slog.DiscardHandler),
	})
	u := update{Entries: []Entry{{Index: 7, Term: 2, Data: []byte("x")}}, News: News{Leader: "a"}}
	for _, round := range []struct {
		keeps error
		want  int
	}{{ErrMoved, 1}, {errRefused, 1}, {nil, 0}} {
		keeps = round.keeps
		if err := errors.Join(take(u, f), f.Heard(u.News)); err != nil {
			t.Fatal(err)
		}
		if got, err := Noted(store); err != nil || len(got) != round.want {
			t.Errorf("Keep says %v: %v, %v", keeps, got, err)
		}
		u.Entries = nil
	}
}

// noted is a store that has this under every key.
func noted(b []byte) raft.StableStore {
	s := raft.NewInmemStore()
	_ = s.Set(journalKey, b) // in memory
	return s
}

func FuzzNoted(f *testing.F) {
	f.Add(canon.Encode([]Entry{{Index: 7, Term: 2, Data: []byte("x")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := canon.Sum(b)
		if all, err := Noted(noted(append(sum[:], b...))); err == nil && len(all) > len(b) {
			t.Errorf("%d entries in %x", len(all), b)
		}
	})
}

func FuzzReceive(f *testing.F) {
	f.Add(frame(update{News: News{Leader: "a", Config: []byte{1}}, Behind: 5, Entries: []Entry{{Index: 6, Term: 1, Data: []byte("x")}}}))
	f.Add(frame(update{Part: []byte{1}, State: &Entry{Index: 9}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := receive(bytes.NewReader(b))
		if err != nil {
			return
		}
		_ = take(u, &sink{at: u.Behind})
		_, _ = decode(u.News.Config)
	})
}
