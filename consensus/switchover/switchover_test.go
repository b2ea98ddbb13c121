package switchover

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// put makes a directory with one file that says what it is.
func put(t *testing.T, dir, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "state"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func says(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// A crash at each step leaves the files of now or those that come, and in the end both are
// there. The node once had neither between two steps: it knew no accounts and no
// datastores until another node gave it the ledger.
func TestACrashLeavesOneOrTheOther(t *testing.T) {
	rename := func(t *testing.T, from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func(t *testing.T, dir string)
		want string
	}{
		{"before the first", func(*testing.T, string) {}, "old"},
		{"half written", func(t *testing.T, dir string) { put(t, filepath.Join(dir, half, "snapshots"), "part") }, "old"},
		{"not named yet", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, half), "new")
			if err := os.WriteFile(filepath.Join(dir, half, label), []byte("7"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "old"},
		{"complete", func(t *testing.T, dir string) { rename(t, filepath.Join(dir, half), filepath.Join(dir, next)) }, "new"},
		{"the old ones put away", func(t *testing.T, dir string) {
			rename(t, filepath.Join(dir, now), filepath.Join(dir, orphans+"7"))
		}, "new"},
		{"in place", func(t *testing.T, dir string) { rename(t, filepath.Join(dir, next), filepath.Join(dir, now)) }, "new"},
		{"and its label removed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, now, label)); err != nil {
				t.Fatal(err)
			}
		}, "new"},
	}
	for last, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, now), "old")
			for i, step := range steps[:last+1] {
				if i == 2 {
					os.RemoveAll(filepath.Join(dir, half)) // as Prepare does
				}
				step.do(t, dir)
			}
			for range 2 {
				if err := Finish(dir); err != nil {
					t.Fatal(err)
				}
			}
			if got := says(t, filepath.Join(dir, now)); got != s.want {
				t.Errorf("the files of now are %q, want %q", got, s.want)
			}
			if got := says(t, filepath.Join(dir, orphans+"7")); (got == "old") != (s.want == "new") {
				t.Errorf("%q was put away", got)
			}
			for _, d := range []string{half, next} {
				if _, err := os.Lstat(filepath.Join(dir, d)); err == nil {
					t.Errorf("%s is left", d)
				}
			}
		})
	}
}

func TestPrepareAndFinish(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, now), "first")
	broken := errors.New("disk full")
	if err := Prepare(dir, "1", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := Finish(dir); err != nil || says(t, filepath.Join(dir, now)) != "first" {
		t.Errorf("%v, %q", err, says(t, filepath.Join(dir, now)))
	}
	for _, text := range []string{"second", "third"} {
		if err := Prepare(dir, "1", func(d string) error { put(t, d, text); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := Finish(dir); err != nil || says(t, filepath.Join(dir, now)) != text {
			t.Errorf("%v, %q", err, says(t, filepath.Join(dir, now)))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"raft", "raft.orphan-1", "raft.orphan-1.2"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}
