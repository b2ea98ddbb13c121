package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// entry is what a log has at an index in a term, in every log that has it.
func entry(index, term uint64) *raft.Log {
	return &raft.Log{Index: index, Term: term, Data: fmt.Append(nil, index, " in ", term)}
}

// logOf has the entries from number first on, of which the terms are given.
func logOf(t *testing.T, first uint64, terms ...uint64) *raft.InmemStore {
	t.Helper()
	log := raft.NewInmemStore()
	for i, term := range terms {
		if err := log.StoreLog(entry(first+uint64(i), term)); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		log         *raft.InmemStore
		index, term uint64 // of the snapshot
		want        Tail
	}{
		"nothing":                             {logOf(t, 1), 0, 0, Tail{}},
		"only a snapshot":                     {logOf(t, 1), 9, 2, Tail{Index: 9, Term: 2}},
		"a log":                               {logOf(t, 1, 1, 1, 3), 0, 0, Tail{Index: 3, Term: 3, Sum: sum(entry(3, 3))}},
		"a log behind a snapshot":             {logOf(t, 5, 2, 3), 4, 2, Tail{Index: 6, Term: 3, Sum: sum(entry(6, 3))}},
		"a log that the snapshot has":         {logOf(t, 5, 2, 3), 6, 3, Tail{Index: 6, Term: 3, Sum: sum(entry(6, 3))}},
		"a log that ends before the snapshot": {logOf(t, 5, 2, 3), 9, 4, Tail{Index: 9, Term: 4}},
	} {
		got, err := Of(c.log, c.index, c.term)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// Who votes is what the newest configuration says, agreed on or not: so does Raft.
func TestVoters(t *testing.T) {
	config := func(voters ...string) (c raft.Configuration) {
		for _, id := range voters {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id), Suffrage: raft.Voter})
		}
		c.Servers = append(c.Servers, raft.Server{ID: "standby", Address: "standby", Suffrage: raft.Nonvoter})
		return c
	}
	log := logOf(t, 1, 1)
	for i, voters := range [][]string{{"a", "b"}, {"a", "b", "c"}} {
		l := &raft.Log{Index: uint64(2 + i), Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(config(voters...))}
		if err := log.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
	for behind, want := range map[uint64][]string{0: {"a", "b", "c"}, 2: {"a", "b", "c"}, 3: {"old"}} {
		if got, err := Voters(log, behind, config("old")); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind entry %d: %v, %v; want %v", behind, got, err, want)
		}
	}
	if _, err := Voters(logOf(t, 5, 1), 2, config("old")); err == nil {
		t.Error("a log with a hole says who votes")
	}
}

// This node began with entries 1 to 10, of which the last five are of term 3, in
// incarnation 2, and has led since: 11 and 12 are of term 4.
func TestWhomItMayLead(t *testing.T) {
	const fits, more, other, later = "", "knows more", "is not that of", "was recovered"
	for name, c := range map[string]struct {
		theirs Tail
		want   string
		last   uint64
	}{
		"nothing at all":                            {Tail{Incarnation: 2}, fits, 0},
		"what ours began with":                      {Tail{2, 3, 10, sum(entry(10, 3)), 10, 10}, fits, 0},
		"all of ours":                               {Tail{2, 4, 12, sum(entry(12, 4)), 12, 12}, fits, 0},
		"a beginning of ours":                       {Tail{2, 1, 4, sum(entry(4, 1)), 4, 4}, fits, 0},
		"the same end, in a snapshot":               {Tail{2, 3, 10, nil, 10, 10}, fits, 0},
		"another entry of the same term":            {Tail{2, 3, 10, sum(entry(10, 7)), 9, 9}, other, 10},
		"an older entry that was agreed on":         {Tail{2, 2, 8, sum(entry(8, 2)), 8, 8}, other, 8},
		"an older entry that never was":             {Tail{2, 2, 8, sum(entry(8, 2)), 7, 7}, fits, 0},
		"a newer entry in the place of ours":        {Tail{2, 4, 8, sum(entry(8, 4)), 7, 7}, more, 8},
		"one more of the term that ours began with": {Tail{2, 3, 11, sum(entry(11, 3)), 10, 10}, more, 11},
		"one behind all of ours":                    {Tail{2, 4, 13, sum(entry(13, 4)), 12, 12}, more, 13},
		"a state that is further than ours":         {Tail{2, 0, 0, nil, 0, 40}, more, 40},
		"a later incarnation":                       {Tail{3, 1, 1, nil, 1, 1}, later, 0},
		"an earlier incarnation, and much of it":    {Tail{1, 9, 99, nil, 99, 99}, fits, 0},
	} {
		var found *Error
		k := &Check{
			Base: Tail{Incarnation: 2, Term: 3, Index: 10}, Log: logOf(t, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 4, 4), Found: func(e *Error) { found = e },
			Ask: func(context.Context, string) (Tail, error) { return c.theirs, nil },
		}
		err := k.May("dc")
		if c.want == fits {
			if err != nil || found != nil {
				t.Errorf("%s: %v, told %v", name, err, found)
			}
			continue
		}
		var e *Error
		if c.want == later { // once it was said that a disk had gone back, for days
			if !errors.As(err, &e) || !e.Later || found != nil || !strings.Contains(e.Error(), later) || e.Hint() == "" {
				t.Errorf("%s: %v, told %v", name, err, found)
			}
			continue
		}
		if !errors.As(err, &e) || e != found || e.Node != "dc" || e.Last != c.last || e.Ours != 10 || e.Other != (c.want == other) || e.Hint() == "" {
			t.Errorf("%s: %v, want that it %s, up to %d", name, err, c.want, c.last)
		}
	}
}

// The log was shortened to a snapshot: what is in that is not looked for in the log.
func TestWhomItMayLeadWithASnapshot(t *testing.T) {
	for index, want := range map[uint64]bool{9: true, 10: true, 11: false} {
		k := &Check{
			Base: Tail{Incarnation: 1, Term: 3, Index: 10}, Log: logOf(t, 1), Found: func(*Error) {},
			Ask: func(context.Context, string) (Tail, error) { return Tail{Incarnation: 1, Term: 3, Index: index}, nil },
		}
		if err := k.May("dc"); (err == nil) != want {
			t.Errorf("of one that ends with entry %d: %v", index, err)
		}
	}
}

// A site that is alone goes on, after a while in which anybody could have said that
// they know more; one answer is enough to wait for the rest for a shorter time only.
func TestAll(t *testing.T) {
	same, more := Tail{Incarnation: 1, Term: 1, Index: 3}, Tail{Incarnation: 1, Term: 1, Index: 4}
	down := errors.New("no route to host")
	for name, c := range map[string]struct {
		answers map[string]Tail
		late    map[string]time.Duration // from when on it answers
		want    string                   // whom it must not lead
		within  time.Duration
	}{
		"nobody is there":                          {nil, nil, "", 0},
		"all answer":                               {map[string]Tail{"b": same, "c": same}, nil, "", 0},
		"nobody answers":                           {map[string]Tail{"b": same}, map[string]time.Duration{"b": time.Hour}, "", patience},
		"one answers, and one is away":             {map[string]Tail{"b": same, "c": more}, map[string]time.Duration{"c": time.Hour}, "", others},
		"one answers soon":                         {map[string]Tail{"b": same}, map[string]time.Duration{"b": 3 * time.Second}, "", 3 * time.Second},
		"one knows more":                           {map[string]Tail{"b": same, "c": more}, map[string]time.Duration{"b": time.Hour}, "c", 0},
		"one knows more, and answers after others": {map[string]Tail{"b": same, "c": more}, map[string]time.Duration{"c": 2 * time.Second}, "c", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, cleared := time.Now(), 0
				k := &Check{
					Base: Tail{Incarnation: 1, Term: 1, Index: 3}, Log: logOf(t, 1, 1, 1, 1),
					Nodes: func() (ids []string) {
						for id := range c.answers {
							ids = append(ids, id)
						}
						return ids
					},
					Ask: func(_ context.Context, node string) (Tail, error) {
						if time.Since(began) < c.late[node] {
							return Tail{}, down
						}
						return c.answers[node], nil
					},
					Found: func(e *Error) {
						if e == nil {
							cleared++
						}
					},
				}
				err := k.All(t.Context())
				took := time.Since(began)
				var e *Error
				if errors.As(err, &e) != (c.want != "") || err != nil && (e == nil || e.Node != c.want) {
					t.Errorf("%v, want that it must not lead %q", err, c.want)
				}
				if took < c.within || took > c.within+again {
					t.Errorf("it took %s, want %s", took, c.within)
				}
				if heardAll := took < others && err == nil; (cleared == 1) != heardAll {
					t.Errorf("%d times it is said that all is well", cleared)
				}
			})
		})
	}
}

// Who could not be asked is asked before anything is said to them, once if they fit,
// and again and again if they do not: their disk may be put back as well.
func TestMayAsksAgain(t *testing.T) {
	asked, answer, down := 0, Tail{Incarnation: 1, Term: 1, Index: 9}, errors.New("no route to host")
	k := &Check{
		Base: Tail{Incarnation: 1, Term: 1, Index: 3}, Log: logOf(t, 1, 1, 1, 1), Found: func(*Error) {},
		Ask: func(context.Context, string) (Tail, error) { asked++; return answer, down },
	}
	if err := k.May("b"); !errors.Is(err, down) {
		t.Errorf("it may lead whom it could not ask: %v", err)
	}
	down = nil
	for range 2 {
		if err := k.May("b"); !errors.As(err, new(*Error)) {
			t.Errorf("it may lead who knows more: %v", err)
		}
	}
	answer.Index = 3
	for range 3 {
		if err := k.May("b"); err != nil {
			t.Error(err)
		}
	}
	if asked != 4 {
		t.Errorf("it asked %d times, want 4", asked)
	}
}
