package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree makes a directory with some files of random content.
func randomTree(t *testing.T, files, size int) string {
	t.Helper()
	dir := t.TempDir()
	b := make([]byte, size)
	for i := range files {
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%03d", i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// same fails unless two directories are the same.
func sameTrees(t *testing.T, a, b string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
		t.Errorf("%s and %s differ: %v %s", a, b, err, out)
	}
}

// snapshots are those that a node lists in a namespace of its datastore.
func (d *daemon) snapshots(ns string) (list []string) {
	d.t.Helper()
	var all []struct {
		Type string `json:"backup-type"`
		ID   string `json:"backup-id"`
		Time int64  `json:"backup-time"`
		Size *int64
	}
	args := []string{"snapshot", "list", "--output-format", "json"}
	if ns != "" {
		args = append(args, "--ns", ns)
	}
	out, err := d.holdfast(args...)
	if err != nil {
		return nil // the namespace may not be there yet
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		d.t.Fatal(err)
	}
	for _, s := range all {
		if s.Size != nil {
			list = append(list, fmt.Sprintf("%s/%s/%s", s.Type, s.ID, time.Unix(s.Time, 0).UTC().Format(time.RFC3339)))
		}
	}
	return list
}

// Three daemons: what is backed up at a is pulled by b, and from b by c, over
// the tunnels between them. A daemon that is killed in the middle of a pull goes
// on where it was, and what comes back is the same to the byte, also when the
// first is gone.
func TestPullBetweenProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	all, _ := newDaemons(t)
	a, b, c := all[0], all[1], all[2]
	for _, d := range all {
		d.wait(60*time.Second, "it knows the cluster", func() bool { s := d.status(); return s.Quorum && len(s.Members) == 3 })
		d.must("datastore", "create", "main", "--path", d.dir+"-store")
	}
	small, large := randomTree(t, 8, 100_000), randomTree(t, 40, 2_000_000)
	a.must("backup", "tree.pxar:"+small, "--backup-id", "small", "-q")
	a.must("backup", "tree.pxar:"+large, "--backup-id", "large", "-q")

	// b pulls from a into a namespace, by hand, slowly, and is killed in the
	// middle of it.
	b.must("job", "create", "pull", "a-to-b", "--remote", "a", "--remote-store", "main", "--store", "main", "--ns", "a", "--rate-in", "16MiB", "--burst-in", "1MiB")
	if out := b.must("job", "plan", "a-to-b"); !strings.Contains(out, "2 of 2 groups, 2 snapshots") || !strings.Contains(out, "fetch") {
		t.Errorf("the plan is\n%s", out)
	}
	running := exec.Command(os.Args[0], "job", "run", "a-to-b")
	running.Env = append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+b.dir)
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	b.wait(30*time.Second, "chunks arrive", func() bool { return dirSize(t, b.dir+"-store") > 20<<20 })
	b.kill(syscall.SIGKILL)
	_ = running.Wait() // whom it asked is gone
	before := dirSize(t, b.dir+"-store")
	b.start()
	b.must("job", "update", "a-to-b", "--delete", "rate-in")
	out, err := b.holdfastAll("job", "run", "a-to-b")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "found 2 groups to sync (out of 2 total)") || !strings.Contains(out, "Summary: sync job pulled") {
		t.Errorf("the log of the job is\n%s", out)
	}
	t.Logf("killed with %d MiB of the store filled; then:\n%s", before>>20, out)
	if got := b.snapshots("a"); len(got) != 2 {
		t.Fatalf("b has %v, want two", got)
	}
	if out, err := b.holdfastAll("job", "run", "a-to-b"); err != nil || !strings.Contains(out, "sync job found no new data to pull") {
		t.Errorf("once more: %v\n%s", err, out)
	}

	// c pulls from b by itself, when something is new there.
	// The job is made at a, for c.
	a.must("job", "create", "pull", "b-to-c", "--on-node", "c", "--remote", "b", "--remote-store", "main", "--remote-ns", "a", "--store", "main", "--ns", "deep", "--schedule", "on-change", "--sources", "any", "--worker-threads", "4")
	c.wait(90*time.Second, "c has what b has", func() bool { return len(c.snapshots("deep")) == 2 })

	if out := a.must("job", "list", "--on-node", "c"); !strings.Contains(out, "b-to-c") {
		t.Errorf("a lists of c's jobs\n%s", out)
	}
	// a and b are gone. c gives all back.
	a.kill(syscall.SIGKILL)
	b.kill(syscall.SIGKILL)
	for group, from := range map[string]string{"host/small": small, "host/large": large} {
		to := filepath.Join(t.TempDir(), "back")
		c.must("restore", group, "tree.pxar", to, "--ns", "deep", "-q")
		sameTrees(t, from, to)
	}
	c.kill(syscall.SIGTERM)
}

// holdfastAll is holdfast with both outputs.
func (d *daemon) holdfastAll(args ...string) (string, error) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+d.dir, "PBS_REPOSITORY=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// dirSize is how many bytes the files below a directory take.
func dirSize(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it changes meanwhile
		}
		if info, err := e.Info(); err == nil {
			n += allocated(info)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// allocated is what a file takes on the disk: packs are made as large as they
// may become.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
