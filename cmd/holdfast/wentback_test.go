package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two sites, of which one votes. Its directory was replaced by an older copy: it
// elected itself, without the user that had been acknowledged, and from then on there
// were two ledgers. Now it says on both nodes what has happened, and what to do.
func TestVoterOfTwoSitesPutBack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons")
	}
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	node := func(name string) *daemon {
		d := &daemon{t: t, name: name, dir: filepath.Join(root, name)}
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
		return d
	}
	a, b := node("a"), node("b")
	a.must("node", "init", "--name", "a", "--site", "here", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	a.start()
	var token string
	a.wait(patience, "its mesh port is open", func() bool {
		token, err = a.holdfast("invite", "create", "-q")
		return err == nil
	})
	if _, err := b.holdfastWith(token, "node", "join", "-", "--name", "b", "--site", "there", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)); err != nil {
		t.Fatal(err)
	}
	b.start()
	knows := func(d *daemon, user string) {
		t.Helper()
		d.wait(time.Minute, "it knows "+user, func() bool { return strings.Contains(d.users(), user) })
	}
	a.wait(patience, "old@pbs", func() bool { _, err := a.holdfast("user", "create", "old@pbs"); return err == nil })
	knows(b, "old@pbs")

	a.kill(syscall.SIGTERM)
	if err := os.CopyFS(filepath.Join(root, "image"), os.DirFS(a.dir)); err != nil {
		t.Fatal(err)
	}
	a.start()
	a.wait(patience, "acked@pbs", func() bool { _, err := a.holdfast("user", "create", "acked@pbs"); return err == nil })
	knows(b, "acked@pbs")
	a.kill(syscall.SIGTERM)
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "image"), a.dir); err != nil {
		t.Fatal(err)
	}
	keepPrivate(t, a.dir)
	a.start()
	for _, d := range []*daemon{a, b} {
		d.wait(time.Minute, "it says that the disk of a went back", func() bool {
			out, _ := d.holdfast("status")
			return strings.Contains(out, "b knows more of the ledger") && strings.Contains(out, "recover-quorum")
		})
		d.wait(time.Minute, "it says that nobody leads", func() bool { return !d.status().Quorum }) // b believes for some seconds that a leads still
	}
	if _, err := a.holdfast("user", "create", "alone@pbs"); err == nil {
		t.Error("it takes a change alone")
	}
	if out := b.must("member", "recover-quorum", "--plan"); !strings.Contains(out, "run recover-quorum here") {
		t.Errorf("the plan is:\n%s", out)
	}
	b.must("member", "recover-quorum", "--operator-key", filepath.Join(a.dir, "operator.key"))
	a.wait(2*time.Minute, "it is taken in again", func() bool { s := a.status(); return s.Quorum && s.Leader == "b" })
	knows(a, "acked@pbs")
	knows(a, "old@pbs")
}

// keepPrivate gives files of a copy the rights of the originals, which CopyFS does
// not keep.
func keepPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
