package verify

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func TestTaskNames(t *testing.T) {
	s := snap(t, "vm/100", 0)
	for _, row := range []struct {
		opt  Options
		want string
	}{
		{Options{Store: "tank"}, "verify tank"},
		{Options{Store: "tank", Namespace: "a/b"}, "verify tank:ns/a/ns/b"},
		{Options{Store: "tank", Group: &s.Group}, "verify_group tank:/vm/100"},
		{Options{Store: "tank", Namespace: "a", Snapshot: &s}, "verify_snapshot tank:ns/a/vm/100/65920080"},
	} {
		if got := row.opt.taskType() + " " + row.opt.taskID(); got != row.want {
			t.Errorf("task is %q, want %q", got, row.want)
		}
	}
}

func TestPaceKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := pace{rate: 1000}, time.Now()
		done := make(chan error)
		for range 4 {
			go func() { done <- p.wait(t.Context(), 500) }()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 1500*time.Millisecond { // the last one waits for three
			t.Errorf("2,000 bytes at 1,000 a second took %v", took)
		}
	})
}

func TestNotesKeepChunksApart(t *testing.T) {
	var n notes
	n.set(pack.Ref{Pack: 7, Entry: 300}, good.sized(16<<20)|encrypted)
	n.set(pack.Ref{Pack: 7, Entry: 2}, damaged)
	n.set(pack.Ref{Pack: 0, Entry: 2}, good.sized(1<<40))
	for _, row := range []struct {
		ref  pack.Ref
		want note
	}{
		{pack.Ref{Pack: 7, Entry: 300}, good | encrypted | 16<<20},
		{pack.Ref{Pack: 7, Entry: 2}, damaged},
		{pack.Ref{Pack: 0, Entry: 2}, good}, // a length without room is not known
		{pack.Ref{Pack: 7, Entry: 299}, 0},
		{pack.Ref{Pack: 7, Entry: 9999}, 0},
		{pack.Ref{Pack: 9}, 0},
	} {
		if got := n.get(row.ref); got != row.want {
			t.Errorf("note of %v is %x, want %x", row.ref, got, row.want)
		}
	}
}
