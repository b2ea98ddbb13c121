package jobs

import (
	"context"
	"testing"
	"time"
)

func BenchmarkLogf(b *testing.B) {
	m, err := New(Config{Dir: b.TempDir(), LogBytes: maxLog / 2})
	if err != nil {
		b.Fatal(err)
	}
	_, err = m.Do(b.Context(), "prune", "store1", "a@pbs", func(_ context.Context, t *Task) error {
		for n := 0; b.Loop(); n++ {
			t.Logf("processed %d%% (%d chunks)", n%100, n)
		}
		return nil
	})
	if err != nil || m.Close(b.Context()) != nil {
		b.Fatal(err)
	}
}

// BenchmarkTask is a task that does nothing, with a thousand that have ended:
// two files are synced.
func BenchmarkTask(b *testing.B) {
	m, err := New(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Unix(time.Now().Unix(), 0)
	for n := range 1000 {
		m.finished = append(m.finished, Info{UPID: UPID{Node: "a", Type: "b", AuthID: "c", TaskID: uint64(n)}, State: OK, End: now})
	}
	for b.Loop() {
		if _, err := m.Do(b.Context(), "prune", "store1", "a@pbs", nothing); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkList(b *testing.B) {
	m := &Manager{active: map[UPID]*Task{}}
	for n := range 1000 {
		m.finished = append(m.finished, Info{UPID: UPID{Node: "a", Type: "b", ID: "s:vm/1", AuthID: "c", TaskID: uint64(n)}, State: OK})
	}
	for b.Loop() {
		if _, total := m.List(Filter{Store: "s", Limit: 50}); total != 1000 {
			b.Fatal(total)
		}
	}
}
