package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A push encrypts what goes to a server that is trusted less, a pull decrypts it, and
// nothing prints the key. It is archived and removed when no job needs it.
func TestJobsWithKeys(t *testing.T) {
	t.Parallel()
	there, here, address := twoClusters(t)
	tree := randomTree(t, 12, 300_000)
	here.must("backup", "tree.pxar:"+tree, "--backup-id", "one", "-q")
	const secret = "hush-hush-9d1c"
	there.must("user", "create", "push@pbs", "--password", secret)
	there.must("acl", "update", "/datastore/main", "DatastoreAdmin", "--auth-id", "push@pbs")
	host, port, _ := strings.Cut(address, ":")
	here.must("remote", "create", "office", "--host", host, "--port", port, "--auth-id", "push@pbs", "--password", secret, "--fingerprint", fingerprintOf(there.must("cert", "info")))
	file := filepath.Join(t.TempDir(), "offsite.json")
	here.must("key", "create", file, "--kdf", "none")
	here.must("key", "add", "offsite", "--keyfile", file, "--comment", "of the office")
	print := fingerprintOf(here.must("key", "show", file))
	if out := here.must("key", "list"); !strings.Contains(out, print) || !strings.Contains(out, "here") {
		t.Errorf("listed: %s", out)
	}
	if out, err := here.holdfastAll("job", "create", "push", "upward", "--remote", "office", "--remote-store", "main", "--store", "main", "--active-encryption-key", "nothing"); err == nil || !strings.Contains(out, "there is no key 'nothing'") {
		t.Errorf("a key that is not there: %v %s", err, out)
	}
	here.must("job", "create", "push", "upward", "--remote", "office", "--remote-store", "main", "--store", "main", "--active-encryption-key", "offsite")
	if out, err := here.holdfastAll("job", "run", "upward"); err != nil || !strings.Contains(out, "encrypted with the key "+print[:23]) {
		t.Fatalf("%v\n%s", err, out)
	}
	back := filepath.Join(t.TempDir(), "back")
	if out, err := there.holdfastAll("restore", "host/one", "tree.pxar", back, "-q"); err == nil {
		t.Errorf("it is read there without the key: %s", out)
	}
	there.must("restore", "host/one", "tree.pxar", back, "-q", "--keyfile", file)
	sameTrees(t, tree, back)

	here.must("namespace", "create", "main:back")
	here.must("job", "create", "pull", "downward", "--remote", "office", "--remote-store", "main", "--store", "main", "--ns", "back", "--max-depth", "0", "--associated-key", "offsite")
	if out, err := here.holdfastAll("job", "run", "downward"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	here.must("restore", "host/one", "tree.pxar", plain, "--ns", "back", "-q")
	sameTrees(t, tree, plain)

	// What was decrypted goes to a directory that is there, and needs no Holdfast.
	usb := filepath.Join(t.TempDir(), "usb")
	create := []string{"job", "create", "export", "usb-disk", "--store", "main", "--ns", "back", "--path", usb, "--keep-last", "2"}
	if out, err := here.holdfastAll(create...); err == nil || !strings.Contains(out, "is no directory") {
		t.Errorf("a directory that is not there: %v %s", err, out)
	}
	if err := os.Mkdir(usb, 0o700); err != nil {
		t.Fatal(err)
	}
	here.must(create...)
	if out, err := here.holdfastAll("job", "run", "usb-disk"); err != nil || !strings.Contains(out, "1 snapshots were written") {
		t.Errorf("%v\n%s", err, out)
	}
	if tars, err := filepath.Glob(filepath.Join(usb, "back/host/one/*/tree.tar")); err != nil || len(tars) != 1 {
		t.Errorf("exported: %v %v", tars, err)
	}
	here.must("job", "rule", "export:usb-disk", "--after", "pull:downward")
	if out := here.must("job", "why", "usb-disk") + here.must("job", "list"); !strings.Contains(out, "waits until pull:downward has run well") || !strings.Contains(out, "export") {
		t.Errorf("why: %s", out)
	}

	for _, step := range []struct{ refused, args string }{
		{"what job here:upward encrypts with", "key archive offsite"},
		{"", "job update upward --delete active-encryption-key"},
		{"", "key archive offsite"},
		{"may decrypt with key 'offsite'", "key remove offsite"},
		{"", "job update upward --delete associated-key"},
		{"", "job update downward --delete associated-key"},
		{"", "key remove offsite"},
	} {
		out, err := here.holdfastAll(strings.Fields(step.args)...)
		if (err != nil) != (step.refused != "") || !strings.Contains(out, step.refused) {
			t.Errorf("%s: %v %s", step.args, err, out)
		}
	}
	here.kill(syscall.SIGTERM)
	there.kill(syscall.SIGTERM)
}
