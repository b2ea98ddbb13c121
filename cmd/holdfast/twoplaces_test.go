package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A board is three operators, of whom two have to sign, and two nodes: a, on which
// everything is typed, and b.
type board struct {
	t        *testing.T
	root     string
	a, b     *daemon
	keys     []string // files; the last is that of a stranger
	ids      []string
	recovery string
}

func newBoard(t *testing.T) *board {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	w := &board{t: t, root: root, a: &daemon{t: t, name: "a", dir: filepath.Join(root, "a")}, b: &daemon{t: t, name: "b", dir: filepath.Join(root, "b")}}
	for _, d := range []*daemon{w.a, w.b} {
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
	}
	var made struct {
		Recovery string `json:"recovery-key"`
	}
	w.into(&made, "node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t), "--output-format", "json")
	w.recovery = made.Recovery
	w.a.start()
	w.keys = []string{filepath.Join(root, "first.key")}
	if err := os.Rename(filepath.Join(w.a.dir, "operator.key"), w.keys[0]); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"second.key", "third.key", "stranger.key"} {
		w.keys = append(w.keys, filepath.Join(root, name))
	}
	for _, file := range w.keys {
		w.ids = append(w.ids, strings.TrimSpace(w.a.must("operator", "create-key", file)))
	}
	w.a.must(w.by([]int{0, 1, 2}, append([]string{"operator", "set", "--threshold", "2"}, w.ids[:3]...)...)...)
	var token struct{ Token string }
	w.a.wait(patience, "its mesh port is open", func() bool {
		out, err := w.a.holdfast(w.by([]int{0, 1}, "invite", "create", "--role", "full", "--output-format", "json")...)
		return err == nil && json.Unmarshal([]byte(out), &token) == nil
	})
	if _, err := w.b.holdfastWith(token.Token, "node", "join", "-", "--name", "b", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)); err != nil {
		t.Fatal(err)
	}
	w.b.start()
	w.b.wait(patience, "it takes part", func() bool { s := w.b.status(); return s.Quorum && len(s.Members) == 2 })
	return w
}

// by is a command line with the keys of these.
func (w *board) by(who []int, args ...string) []string {
	for _, i := range who {
		args = append(args, "--operator-key", w.keys[i])
	}
	return args
}

func (w *board) into(v any, args ...string) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.a.must(args...)), v); err != nil {
		w.t.Fatal(err)
	}
}

// says runs a command, which has to fail or not, and to say all of this.
func (w *board) says(d *daemon, fails bool, args []string, want ...string) string {
	w.t.Helper()
	out, err := d.holdfastAll(args...)
	if (err != nil) != fails {
		w.t.Errorf("%s: holdfast %s: %v\n%s", d.name, strings.Join(args, " "), err, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			w.t.Errorf("%s: holdfast %s: want %q in\n%s", d.name, strings.Join(args, " "), text, out)
		}
	}
	return out
}

// Operators sat at two places. One typed `member eject` and was told that nothing had
// changed, though the node was cut off there; nobody could take that back, since `guard
// release` could not be signed elsewhere; and who signed could not see for whom.
func TestOperatorsAtTwoPlaces(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	w := newBoard(t)
	eject, release, mailed := filepath.Join(w.root, "eject.json"), filepath.Join(w.root, "release.json"), filepath.Join(w.root, "mailed.json")
	w.says(w.a, true, w.by([]int{0}, "member", "eject", "b", "--sign-to", eject),
		"b is cut off here, and by no other node", "1 operator has signed, and 2 have to", `(called "b" where this was made)`, "guard release --member b")
	if out := w.a.must("guard", "show"); !strings.Contains(out, "block") {
		t.Errorf("it is not cut off:\n%s", out)
	}
	w.says(w.a, true, w.by([]int{0}, "member", "eject", "b"), "b is cut off here, and by no other node", "--sign-to")
	w.says(w.a, true, w.by([]int{0, 3}, "member", "eject", "b"), "is none of the operators", w.ids[3])
	w.says(w.b, true, w.by([]int{3}, "operator", "sign", eject), "is none of the operators", w.ids[3])
	w.says(w.a, true, []string{"operator", "submit", eject}, w.ids[1], w.ids[2], "operator sign")

	w.says(w.a, true, w.by([]int{0}, "guard", "release", "--member", "b", "--reason", "a mistake", "--sign-to", release), "1 operator has signed, and 2 have to")
	text, err := os.ReadFile(release)
	if err == nil {
		err = os.WriteFile(mailed, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.says(w.b, true, w.by([]int{2}, "operator", "sign", mailed), "chmod 600 "+mailed)
	if err := os.Chmod(mailed, 0o600); err != nil {
		t.Fatal(err)
	}
	w.says(w.a, true, []string{"operator", "submit", mailed}, w.ids[1], w.ids[2])
	w.says(w.b, true, w.by([]int{3}, "operator", "sign", mailed), "is none of the operators", w.ids[3])
	w.says(w.b, false, w.by([]int{2}, "operator", "sign", mailed), `(called "b" where this was made) in again on node`, `(called "a" where this was made)`, `"a mistake"`, "2 operators have signed, and 2 have to")
	w.says(w.b, true, []string{"operator", "submit", mailed}, "is for node a", "operator submit")
	w.says(w.a, false, []string{"operator", "submit", mailed}, "let node")
	if out := w.a.must("guard", "show"); strings.Contains(out, "block") {
		t.Errorf("it is cut off still:\n%s", out)
	}
	w.says(w.a, true, []string{"operator", "submit", mailed}, "made before")

	w.waits()
	w.floor()
	for _, d := range []*daemon{w.a, w.b} {
		d.kill(syscall.SIGTERM)
	}
}

// waits changes the operators with --sign-to and as many keys as begin the seven days:
// no file was written, and the change was submitted at once.
func (w *board) waits() {
	w.t.Helper()
	file := filepath.Join(w.root, "set.json")
	set := append([]string{"operator", "set", "--threshold", "2", "--sign-to", file}, w.ids[0], w.ids[1])
	w.says(w.a, true, w.by([]int{0, 1}, set...), file, "seven days", "veto", w.ids[2], "--recovery-key")
	var now struct {
		Operators []string
		Next      []string `json:"next-operators"`
	}
	if w.into(&now, "operator", "list", "--output-format", "json"); len(now.Next) > 0 || len(now.Operators) != 3 {
		w.t.Errorf("it was submitted: %+v", now)
	}
	if out, err := w.b.holdfastWith(w.recovery, "operator", "sign", file, "--recovery-key"); err != nil || strings.Contains(out, "seven days") {
		w.t.Errorf("%v\n%s", err, out)
	}
	w.a.must("operator", "submit", file)
	if w.into(&now, "operator", "list", "--output-format", "json"); len(now.Next) > 0 || len(now.Operators) != 2 {
		w.t.Errorf("it does not count at once: %+v", now)
	}
}

// floor lowers one and vetoes that by the beginning of its ID, as the help does.
func (w *board) floor() {
	w.t.Helper()
	w.a.must("guard", "raise", "main", "--min-age", "720h")
	w.a.must(w.by([]int{0, 1}, "guard", "release", "main", "--reason", "x")...)
	var state struct{ Waiting []struct{ ID string } }
	if w.into(&state, "guard", "show", "--output-format", "json"); len(state.Waiting) != 1 {
		w.t.Fatalf("%+v", state)
	}
	id := state.Waiting[0].ID
	w.says(w.a, true, []string{"guard", "veto", id[:3]}, "4 digits")
	w.says(w.a, false, []string{"guard", "veto", id[:4], "--reason", "nobody here asked for it"})
	if w.into(&state, "guard", "show", "--output-format", "json"); len(state.Waiting) != 0 {
		w.t.Errorf("it waits still: %+v", state)
	}
}
