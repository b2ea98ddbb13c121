package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for what takes seconds, on a machine that does much else.
const patience = 3 * time.Minute

// A replica sets up its own datastore, which comes back when its machine is
// replaced; and a node that was removed is told so, and changes nothing.
func TestReplaceAndRemove(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
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
	listen := func() []string { return []string{"--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)} }
	a, b := node("a"), node("b")
	a.must(append([]string{"node", "init", "--name", "a"}, listen()...)...)
	a.start()
	var token string
	a.wait(patience, "its mesh port is open", func() bool {
		token, err = a.holdfast("invite", "create", "-q", "--role", "replica", "--approve")
		return err == nil
	})
	var joined struct {
		ID      string
		Pending bool
	}
	out, err := b.holdfastWith(token, append([]string{"node", "join", "-", "--name", "b", "--output-format", "json"}, listen()...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &joined)
	}
	if err != nil || !joined.Pending || joined.ID == "" {
		t.Fatalf("join: %+v, %v", joined, err)
	}
	b.start()
	if out := b.must("status"); !strings.Contains(out, "member approve b") {
		t.Errorf("a node that waits does not say so:\n%s", out)
	}
	if out := a.must("member", "show", "b", "--output-format", "json"); !strings.Contains(out, joined.ID) {
		t.Errorf("the identity that join printed, %s, is not in\n%s", joined.ID, out)
	}
	a.must("member", "approve", "b")
	denied(t, a, node("c"), listen())
	store := filepath.Join(root, "store")
	b.wait(patience, "it takes part", func() bool { s := b.status(); return s.Quorum && len(s.Members) == 2 })
	b.must("datastore", "create", "main", "--path", store)
	if _, err := a.holdfast("member", "demote", "a"); err == nil || !strings.Contains(err.Error(), "the only one that votes") {
		t.Errorf("nobody votes any more: %v", err)
	}

	rotate(t, a, b)
	b.must("datastore", "create", "second", "--path", filepath.Join(root, "second")) // by way of a

	// The machine is lost, but not the disk with the datastore.
	b.kill(syscall.SIGKILL)
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	token = a.must("invite", "create", "-q", "--replaces", "b")
	// A replica that was let in without a signature is in no chain, so that whoever joins
	// cannot see that the name is wrong.
	if _, err := b.holdfastWith(token, append([]string{"node", "join", "-", "--name", "b", "--replaces", "nobody"}, listen()...)...); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wait(patience, "it says that it replaces nobody", func() bool {
		return strings.Contains(b.must("status"), `no node "nobody" was removed`)
	})
	b.kill(syscall.SIGTERM)
	if err := os.WriteFile(filepath.Join(b.dir, "cluster", "replaces"), []byte("b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.wait(patience, "it has the datastore again", func() bool {
		_, err := b.holdfast("snapshot", "list", "--store", "main")
		return err == nil
	})
	if text := b.must("status"); !strings.Contains(text, "taken the place of b, whose guard is lost") {
		t.Errorf("nothing is said of its floors:\n%s", text)
	}

	// Its site is given up while it is off.
	b.kill(syscall.SIGTERM)
	a.must("member", "eject", "b")
	b.start()
	b.wait(patience, "it knows that it was removed", func() bool {
		out, _ := b.holdfast("status")
		return strings.Contains(out, "was removed from the cluster")
	})
	if _, err := b.holdfast("user", "create", "x@pbs"); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("it changes something: %v", err)
	}
	if _, err := b.holdfast("snapshot", "list", "--store", "main"); err != nil {
		t.Errorf("what it holds cannot be read any more: %v", err)
	}
	for _, d := range []*daemon{a, b} {
		d.kill(syscall.SIGTERM)
	}
}

// denied has a machine join that waits for approval, and is turned away: it says so.
func denied(t *testing.T, a, c *daemon, listen []string) {
	t.Helper()
	token := a.must("invite", "create", "-q", "--role", "replica", "--approve")
	if _, err := c.holdfastWith(token, append([]string{"node", "join", "-", "--name", "c"}, listen...)...); err != nil {
		t.Fatal(err)
	}
	a.must("member", "deny", "c")
	c.start()
	c.wait(patience, "it says that it was turned away", func() bool {
		out, _ := c.holdfast("status")
		return strings.Contains(out, "was turned away")
	})
	c.kill(syscall.SIGTERM)
}

// rotate has a change its key in the tunnel, and nobody is cut off.
func rotate(t *testing.T, a, b *daemon) {
	t.Helper()
	keys := func() []string {
		var m struct {
			Keys []string `json:"tunnel-keys"`
		}
		if err := json.Unmarshal([]byte(b.must("member", "show", "a", "--output-format", "json")), &m); err != nil {
			t.Fatal(err)
		}
		return m.Keys
	}
	file := filepath.Join(a.dir, "cluster", "wireguard.key")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	was := keys()
	a.must("node", "rotate-keys")
	b.wait(patience, "a uses another key, which b knows", func() bool {
		for _, m := range b.status().Members {
			if m.Name == "a" && !m.Reachable {
				t.Error("a is cut off while it changes its key")
			}
		}
		now, err := os.ReadFile(file)
		return err == nil && string(now) != string(before) && len(keys()) == 2
	})
	if now := keys(); len(was) != 1 || now[1] != was[0] || now[0] == was[0] {
		t.Errorf("b knows %v, and knew %v", now, was)
	}
}
