package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every kind of job is refused by a datastore that is out of service, and says why;
// by one that is read only, each that would change it; and by an empty directory where
// its disk was mounted, in which nothing is written (features rows 178, 179, 196).
func TestJobsAndModes(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	d := &daemon{t: t, name: "home", dir: filepath.Join(root, "d")}
	d.must("node", "init", "--name", "home", "--site", "home", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	d.start()
	t.Cleanup(func() { d.kill(syscall.SIGKILL) })
	d.wait(60*time.Second, "it has a quorum", func() bool { return d.status().Quorum })
	store, usb, tree := filepath.Join(root, "main"), filepath.Join(root, "usb"), randomTree(t, 4, 100_000)
	if err := os.Mkdir(usb, 0o700); err != nil {
		t.Fatal(err)
	}
	d.must("datastore", "create", "main", "--path", store)
	d.must("datastore", "create", "other", "--path", filepath.Join(root, "other"))
	d.must("backup", "tree.pxar:"+tree, "--store", "main", "--backup-id", "one", "-q")
	d.must("backup", "tree.pxar:"+tree, "--store", "other", "--backup-id", "two", "-q")
	d.must("remote", "create", "office", "--host", "127.0.0.1", "--port", "1", "--auth-id", "a@pbs", "--password", "secret")
	d.must("job", "create", "pull", "inwards", "--remote-store", "other", "--store", "main", "--ns", "")
	d.must("job", "create", "pull", "within", "--remote-store", "main", "--store", "other", "--ns", "")
	d.must("job", "create", "push", "outwards", "--remote", "office", "--remote-store", "main", "--store", "main")
	d.must("job", "create", "prune", "old-ones", "--store", "main", "--schedule", "daily", "--keep-last", "1")
	d.must("job", "create", "verify", "look-at", "--store", "main")
	d.must("job", "create", "export", "usb-disk", "--store", "main", "--path", usb)
	run := map[string][]string{"gc": {"datastore", "gc", "main"}}
	for _, job := range []string{"inwards", "within", "outwards", "old-ones", "look-at", "usb-disk"} {
		run[job] = []string{"job", "run", job}
	}
	const message = "the disk is being replaced"
	table := func(mode string, refused string, says ...string) {
		t.Helper()
		for job, args := range run {
			out, err := d.holdfastAll(args...)
			told := false
			for _, s := range says {
				told = told || strings.Contains(out, s)
			}
			switch want := strings.Contains(refused, job+" "); {
			case want && (err == nil || !told):
				t.Errorf("%s: %s is not refused with the reason: %v\n%s", mode, job, err, out)
			case !want && told && err != nil:
				t.Errorf("%s: %s is refused: %v\n%s", mode, job, err, out)
			case !want && err != nil && job != "outwards": // nobody answers at the remote
				t.Errorf("%s: %s: %v\n%s", mode, job, err, out)
			}
		}
	}
	d.must("datastore", "maintenance", "main", "--mode", "offline", "--message", message)
	table("offline", "gc inwards within outwards old-ones look-at usb-disk ", message)
	d.must("datastore", "maintenance", "main", "--mode", "read-only", "--message", message)
	table("read-only", "gc inwards old-ones ", message)
	d.must("datastore", "maintenance", "main", "--mode", "off")
	table("in service", "")

	aside := store + "-aside"
	if err := os.Rename(store, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	d.wait(time.Minute, "it is seen that the disk is gone", func() bool {
		_, err := d.holdfastAll("job", "run", "old-ones")
		return err != nil
	})
	table("not mounted", "gc inwards within outwards old-ones look-at usb-disk ", "is its disk mounted?")
	if entries, err := os.ReadDir(store); err != nil || len(entries) > 0 {
		t.Errorf("something was written where nothing is mounted: %v %v", entries, err)
	}
	if err := errors.Join(os.Remove(store), os.Rename(aside, store)); err != nil {
		t.Fatal(err)
	}
	d.wait(time.Minute, "it is seen that the disk is back", func() bool {
		_, err := d.holdfastAll("job", "run", "old-ones")
		return err == nil
	})
	d.kill(syscall.SIGTERM)
}
