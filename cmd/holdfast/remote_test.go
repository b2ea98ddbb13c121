package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node pulls from a server of another cluster over the protocol of PBS: all
// that it has, once, and the same to the byte; with a wrong fingerprint nothing.
func TestPullFromARemote(t *testing.T) {
	t.Parallel()
	there, here, address := twoClusters(t)
	tree := randomTree(t, 12, 300_000)
	there.must("namespace", "create", "main:deep")
	there.must("backup", "tree.pxar:"+tree, "--backup-id", "one", "-q")
	there.must("backup", "tree.pxar:"+tree, "--backup-id", "two", "--ns", "deep", "-q")
	const secret = "hush-hush-9d1c"
	there.must("user", "create", "sync@pbs", "--password", secret)
	there.must("acl", "update", "/datastore/main", "DatastoreReader", "--auth-id", "sync@pbs")
	print := fingerprintOf(there.must("cert", "info"))
	host, port, _ := strings.Cut(address, ":")
	here.must("remote", "create", "office", "--host", host, "--port", port, "--auth-id", "sync@pbs", "--password", secret, "--fingerprint", print)
	if out := here.must("remote", "scan", "office"); !strings.Contains(out, "main") {
		t.Errorf("scan: %s", out)
	}
	for _, format := range []string{"text", "json"} {
		if out := here.must("remote", "list", "--output-format", format) + here.must("remote", "show", "office", "--output-format", format); strings.Contains(out, secret) || !strings.Contains(out, print) {
			t.Errorf("shown: %s", out)
		}
	}
	here.must("job", "create", "pull", "from-office", "--remote", "office", "--remote-store", "main", "--store", "main", "--ns", "")
	if out, err := here.holdfastAll("remote", "remove", "office"); err == nil || !strings.Contains(out, "is used by sync job") {
		t.Errorf("a remote that is used is removed: %s", out)
	}
	if out, err := here.holdfastAll("job", "run", "from-office"); err != nil || !strings.Contains(out, "Summary: sync job pulled") {
		t.Fatalf("%v\n%s", err, out)
	}
	for ns, group := range map[string]string{"": "host/one", "deep": "host/two"} {
		to := filepath.Join(t.TempDir(), "back")
		here.must("restore", group, "tree.pxar", to, "--ns", ns, "-q")
		sameTrees(t, tree, to)
	}
	if out, err := here.holdfastAll("job", "run", "from-office"); err != nil || !strings.Contains(out, "no new data to pull") {
		t.Errorf("once more: %v\n%s", err, out)
	}
	here.must("remote", "update", "office", "--fingerprint", strings.Repeat("00:", 31)+"00")
	if out, err := here.holdfastAll("job", "run", "from-office"); err == nil || !strings.Contains(out, "fingerprint") && !strings.Contains(out, "certificate") {
		t.Errorf("another fingerprint: %v\n%s", err, out)
	}
	here.kill(syscall.SIGTERM)
	there.kill(syscall.SIGTERM)
}

// A node pushes to a server of another cluster: what is new, once and the same to
// the byte, to the user of the remote; with remove-vanished what is gone here goes
// there. job why says why it ran.
func TestPushToARemote(t *testing.T) {
	t.Parallel()
	there, here, address := twoClusters(t)
	tree := randomTree(t, 12, 300_000)
	here.must("namespace", "create", "main:deep")
	here.must("backup", "tree.pxar:"+tree, "--backup-id", "one", "--backup-time", "1764000000", "-q")
	here.must("backup", "tree.pxar:"+tree, "--backup-id", "two", "--ns", "deep", "-q")
	const secret = "hush-hush-9d1c"
	there.must("user", "create", "push@pbs", "--password", secret)
	there.must("acl", "update", "/datastore/main", "DatastoreAdmin", "--auth-id", "push@pbs")
	there.must("namespace", "create", "main:home")
	print := fingerprintOf(there.must("cert", "info"))
	host, port, _ := strings.Cut(address, ":")
	here.must("remote", "create", "office", "--host", host, "--port", port, "--auth-id", "push@pbs", "--password", secret, "--fingerprint", print)
	if out, err := here.holdfastAll("job", "create", "push", "within", "--remote", "here", "--remote-store", "main", "--store", "main"); err == nil || !strings.Contains(out, "nothing is pushed to the nodes of this mesh") {
		t.Errorf("a push to a node: %v %s", err, out)
	}
	here.must("job", "create", "push", "offsite", "--remote", "office", "--remote-store", "main", "--remote-ns", "home", "--store", "main", "--remove-vanished", "--worker-threads", "2", "--rate-out", "100MiB")
	if out := here.must("job", "list"); !strings.Contains(out, "push") || !strings.Contains(out, "to office/main:home") {
		t.Errorf("listed: %s", out)
	}
	if out, err := here.holdfastAll("job", "run", "offsite"); err != nil || !strings.Contains(out, "Summary: sync job pushed 2 snapshots of 2 groups") {
		t.Fatalf("%v\n%s", err, out)
	}
	for ns, group := range map[string]string{"home": "host/one", "home/deep": "host/two"} {
		to := filepath.Join(t.TempDir(), "back")
		there.must("restore", group, "tree.pxar", to, "--ns", ns, "-q")
		sameTrees(t, tree, to)
	}
	if out, err := here.holdfastAll("job", "run", "offsite"); err != nil || !strings.Contains(out, "no new data to push") {
		t.Errorf("once more: %v\n%s", err, out)
	}
	// A job may read what its owner may, and nothing is added to what is another's there.
	here.must("user", "create", "stranger@pbs", "--password", secret)
	here.must("acl", "update", "/datastore/main", "DatastoreBackup", "--auth-id", "stranger@pbs")
	here.must("job", "create", "push", "not-mine", "--remote", "office", "--remote-store", "main", "--remote-ns", "home/stolen", "--store", "main", "--owner", "stranger@pbs")
	if out, err := here.holdfastAll("job", "run", "not-mine"); err != nil || !strings.Contains(out, "no new data to push") {
		t.Errorf("what its owner may not read: %v\n%s", err, out)
	}
	there.must("backup", "tree.pxar:"+tree, "--backup-id", "theirs", "--ns", "home", "--backup-time", "1764000000", "-q")
	here.must("backup", "tree.pxar:"+tree, "--backup-id", "theirs", "--backup-time", "1764000001", "-q")
	if out, err := here.holdfastAll("job", "run", "offsite"); err != nil || !strings.Contains(out, "host/theirs is left out: there it belongs to root@pam") || !strings.Contains(out, "no new data to push") {
		t.Errorf("a group of another owner: %v\n%s", err, out)
	}
	here.must("group", "forget", "host/theirs")
	// A file more: little is sent. What is gone here goes there.
	if err := os.WriteFile(filepath.Join(tree, "more"), []byte("more"), 0o600); err != nil {
		t.Fatal(err)
	}
	here.must("backup", "tree.pxar:"+tree, "--backup-id", "one", "-q")
	here.must("snapshot", "forget", "host/one/2025-11-24T16:00:00Z")
	if out, err := here.holdfastAll("job", "run", "offsite"); err != nil || !strings.Contains(out, "pushed 1 snapshots") || !strings.Contains(out, "1 snapshots there were removed") {
		t.Errorf("what is new: %v\n%s", err, out)
	}
	to := filepath.Join(t.TempDir(), "back")
	there.must("restore", "host/one", "tree.pxar", to, "--ns", "home", "-q")
	sameTrees(t, tree, to)
	if out := here.must("job", "why", "offsite"); !strings.Contains(out, "it runs only when somebody asks for it") || !strings.Contains(out, "root@pam had asked for it") || !strings.Contains(out, "it ended: OK") {
		t.Errorf("why: %s", out)
	}
	// Shared, by schedule: this node is the only one that has it, and so runs it.
	here.must("job", "rule", "offsite", "--shared", "--timezone", "UTC")
	here.must("job", "update", "offsite", "--schedule", "minutely")
	here.wait(4*time.Minute, "it runs by its schedule", func() bool {
		return strings.Contains(here.must("job", "why", "offsite"), "it was this node's turn for")
	})
	if out := here.must("job", "why", "offsite"); !strings.Contains(out, "node here, fence") || !strings.Contains(out, "the next time it is the turn of here") {
		t.Errorf("why: %s", out)
	}
	here.must("job", "update", "offsite", "--delete", "schedule")
	here.must("remote", "update", "office", "--fingerprint", strings.Repeat("00:", 31)+"00")
	here.wait(2*time.Minute, "it can be run by hand", func() bool {
		out, err := here.holdfastAll("job", "run", "offsite")
		return err != nil && (strings.Contains(out, "fingerprint") || strings.Contains(out, "certificate"))
	})
	here.kill(syscall.SIGTERM)
	there.kill(syscall.SIGTERM)
}

// twoClusters starts a daemon there, which listens at address, and one here, in
// clusters of their own. Each has a datastore main.
func twoClusters(t *testing.T) (there, here *daemon, address string) {
	t.Helper()
	root, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	there, here = &daemon{t: t, name: "there", dir: filepath.Join(root, "t")}, &daemon{t: t, name: "here", dir: filepath.Join(root, "h")}
	address = freeMeshPort(t)
	for _, d := range []*daemon{there, here} {
		listen := "127.0.0.1:0"
		if d == there {
			listen = address
		}
		d.must("node", "init", "--name", d.name, "--site", d.name, "--listen", listen, "--mesh-listen", freeMeshPort(t))
		d.start()
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
		d.wait(60*time.Second, "it has a quorum", func() bool { return d.status().Quorum })
		d.must("datastore", "create", "main", "--path", d.dir+"-store")
	}
	return there, here, address
}

// fingerprintOf finds a fingerprint in a text.
func fingerprintOf(text string) string {
	for word := range strings.FieldsSeq(text) {
		if strings.Count(word, ":") == 31 {
			return word
		}
	}
	return ""
}
