package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// joinWrites are the files that `node join` writes behind the answer of the cluster, in
// that order. What it has written before is what the answer depends on.
var joinWrites = []string{"cluster/authority", "cluster/guard.1", "cluster/guard.2", "cluster.guard", "cluster/raft", "node.toml"}

// A `node join` that is killed at any step behind the answer of the cluster ends well
// when it is repeated, with a token that is used up. (Between the chain and node.toml it
// said that only node.toml was missing, to be written by hand; the token was gone.)
func TestJoinCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a dozen processes")
	}
	t.Parallel()
	a, root := newFirst(t)
	whole := &daemon{t: t, name: "b", dir: filepath.Join(root, "b")}
	t.Cleanup(func() { whole.kill(syscall.SIGKILL) })
	token := a.must("invite", "create", "-q", "--uses", "1")
	join := func(d *daemon) (string, error) {
		return d.holdfastWith(token, "node", "join", "-", "--name", "b", "--site", "b", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	}
	if _, err := join(whole); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(root, "saved")
	copyDir(t, whole.dir, saved)
	for n := range joinWrites {
		if err := os.RemoveAll(whole.dir); err != nil {
			t.Fatal(err)
		}
		copyDir(t, saved, whole.dir)
		for _, file := range joinWrites[n:] {
			if err := os.RemoveAll(filepath.Join(whole.dir, file)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := join(whole); err != nil {
			t.Errorf("cut off before %s: %v", joinWrites[n], err)
		}
		if !slices.Equal(files(t, whole.dir), files(t, saved)) {
			t.Errorf("cut off before %s, and repeated, there are\n%s, want\n%s", joinWrites[n], files(t, whole.dir), files(t, saved))
		}
	}
	first := token
	token = a.must("invite", "create", "-q")
	toml := filepath.Join(whole.dir, "node.toml")
	if err := os.Remove(toml); err != nil {
		t.Fatal(err)
	}
	if _, err := join(whole); err == nil || !strings.Contains(err.Error(), "let into this cluster already") || !strings.Contains(err.Error(), "the token with which it was let in") {
		t.Errorf("cut off, and repeated with another token: %v", err)
	}
	token = first
	if _, err := join(whole); err != nil {
		t.Error(err)
	}
	whole.start()
	for _, d := range []*daemon{a, whole} {
		d.wait(patience, "both are members", func() bool { return d.status().Quorum && len(d.status().Members) == 2 })
	}
	whole.kill(syscall.SIGTERM)

	// Another cluster is not touched by any token, nor by init, whatever is missing.
	configured, err := os.ReadFile(toml)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(toml); err != nil {
		t.Fatal(err)
	}
	had := files(t, whole.dir)
	other := &daemon{t: t, name: "other", dir: filepath.Join(root, "other")}
	other.must("node", "init", "--name", "other", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	if err := os.Remove(filepath.Join(other.dir, "node.toml")); err != nil {
		t.Fatal(err)
	}
	if out, err := join(other); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("what founded another cluster joins: %v\n%s", err, out)
	}
	for _, lost := range []string{"", "cluster/authority"} {
		if lost != "" {
			if err := os.Rename(filepath.Join(whole.dir, lost), filepath.Join(root, "away")); err != nil {
				t.Fatal(err)
			}
			had = files(t, whole.dir)
		}
		if _, err := whole.holdfast("node", "init", "--name", "b"); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("without %q a member founds another cluster: %v", lost, err)
		}
		if now := files(t, whole.dir); !slices.Equal(now, had) {
			t.Errorf("init without %q made of\n%s\n%s", lost, had, now)
		}
	}
	if err := os.Rename(filepath.Join(root, "away"), filepath.Join(whole.dir, "cluster/authority")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(toml, configured, 0o600); err != nil {
		t.Fatal(err)
	}
	whole.start()
	whole.wait(patience, "it is a member as before", func() bool { return whole.status().Quorum })
}

// A `node init` that is killed at any step ends well when it is repeated, or when the
// machine joins another cluster instead.
func TestInitCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a dozen processes")
	}
	t.Parallel()
	a, root := newFirst(t)
	d := &daemon{t: t, name: "b", dir: filepath.Join(root, "b")}
	flags := []string{"--name", "b", "--site", "b", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)}
	d.must(append([]string{"node", "init"}, flags...)...)
	saved := filepath.Join(root, "saved")
	copyDir(t, d.dir, saved)
	if err := os.WriteFile(filepath.Join(saved, "cluster", "founding"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	writes := []string{"identity.key", "tls/key.pem", "tls/cert.pem", "cluster/founding", "operator.key", "cluster/authority", "cluster/guard.1", "cluster/guard.2", "cluster.guard", "cluster/raft", "node.toml"}
	for n := range writes {
		for _, verb := range []string{"init", "join"} {
			if err := os.RemoveAll(d.dir); err != nil {
				t.Fatal(err)
			}
			copyDir(t, saved, d.dir)
			for _, file := range writes[n:] {
				if _, err := os.Stat(filepath.Join(d.dir, file)); err != nil {
					t.Fatal(err) // the list is to be true
				}
				if err := os.RemoveAll(filepath.Join(d.dir, file)); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			switch {
			case verb == "init":
				_, err = d.holdfast(append([]string{"node", "init"}, flags...)...)
			case n == 0 || n == len(writes)-1: // one key joins once
				_, err = d.holdfastWith(a.must("invite", "create", "-q"), append(append([]string{"node", "join", "-"}, flags...), "--name", fmt.Sprint("b", n))...)
			default:
				continue
			}
			if _, missing := os.Stat(filepath.Join(d.dir, "node.toml")); err != nil || missing != nil {
				t.Errorf("init was cut off before %s: then %s: %v", writes[n], verb, err)
			}
		}
	}
}

// newFirst starts a cluster of one that lets machines join, in a directory.
func newFirst(t *testing.T) (a *daemon, root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	a = &daemon{t: t, name: "a", dir: filepath.Join(root, "a")}
	t.Cleanup(func() { a.kill(syscall.SIGKILL) })
	a.must("node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	a.start()
	a.wait(patience, "its mesh port is open", func() bool {
		_, err := a.holdfast("invite", "create", "-q", "--role", "replica")
		return err == nil
	})
	return a, root
}

// files are the paths of all that is in a directory, but what comes and goes: snapshots,
// and that a node whose log is not there does not vote before a leader gave it all.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.Contains(path, "/snapshots/") && e.Name() != "restored" {
			all = append(all, strings.TrimPrefix(path, dir))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if e.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	}); err != nil {
		t.Fatal(err)
	}
}
