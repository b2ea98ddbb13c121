package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// flip changes bytes of every pack of a datastore.
func flip(t *testing.T, store string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(store, "packs"), func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil || allocated(info) < 1<<20 {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{1 << 20, 5 << 20} { // within what was written, of a pack that may be made larger
			b := []byte{0}
			if _, err := f.ReadAt(b, at); err != nil {
				continue
			}
			b[0] ^= 0x55
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		n++
		return f.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Two daemons: what breaks at one is healed from the other after a verification
// finds it, encrypted or not; and what is removed at one is known as removed at
// the other, which a snapshot that is only lost is not.
func TestHealBetweenProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	all, _ := newDaemons(t)
	a, b := all[0], all[1]
	for _, d := range all {
		d.wait(2*time.Minute, "it knows the cluster", func() bool { s := d.status(); return s.Quorum && len(s.Members) == 3 })
		d.must("datastore", "create", "main", "--path", d.dir+"-store")
	}
	open, secret, key := randomTree(t, 8, 500_000), randomTree(t, 8, 500_000), filepath.Join(t.TempDir(), "key")
	a.must("key", "create", key, "--kdf", "none")
	a.must("backup", "tree.pxar:"+open, "--backup-id", "open", "-q")
	a.must("backup", "tree.pxar:"+secret, "--backup-id", "secret", "--keyfile", key, "-q")
	b.wait(2*time.Minute, "b has heard of both", func() bool {
		out, err := b.holdfastAll("status", "--output-format", "json")
		return err == nil && strings.Contains(out, "host/open") && strings.Contains(out, "host/secret")
	})
	b.must("job", "create", "pull", "a-to-b", "--remote", "a", "--remote-store", "main", "--store", "main", "--ns", "a", "--remove-vanished")
	if out, err := b.holdfastAll("job", "run", "a-to-b"); err != nil || strings.Contains(out, "by their checksums only") {
		t.Fatalf("%v\n%s", err, out)
	}
	b.kill(syscall.SIGTERM) // what was written last is in memory else
	if n := flip(t, b.dir+"-store"); n == 0 {
		t.Fatal("no pack was damaged")
	}
	b.start()
	out, err := b.holdfastAll("datastore", "verify", "main")
	if err == nil {
		t.Fatalf("nobody noticed:\n%s", out)
	}
	b.wait(2*time.Minute, "it is healed by itself", func() bool {
		_, err := b.holdfastAll("datastore", "verify", "main")
		return err == nil
	})
	var h struct {
		Lost, Fetched int
		From          map[string]int `json:"by-source"`
	}
	if err := json.Unmarshal([]byte(b.must("datastore", "heal", "main", "--full", "--output-format", "json")), &h); err != nil || h.Lost != 0 {
		t.Errorf("it lacks something still: %+v, %v", h, err)
	}
	for group, from := range map[string]string{"host/open": open, "host/secret": secret} {
		to := filepath.Join(t.TempDir(), "back")
		b.must("restore", group, "tree.pxar", to, "--ns", "a", "--keyfile", key, "-q")
		sameTrees(t, from, to)
	}

	i := slices.IndexFunc(a.snapshots(""), func(s string) bool { return strings.HasPrefix(s, "host/open/") })
	a.must("snapshot", "forget", a.snapshots("")[i])
	b.wait(2*time.Minute, "the plan knows that it was removed", func() bool {
		out, err := b.holdfastAll("job", "plan", "a-to-b")
		return err == nil && strings.Contains(out, "it was absent in 1 complete passes, and must be in 3")
	})
	if out, err := b.holdfastAll("job", "run", "a-to-b"); err != nil || !strings.Contains(out, "removed vanished: snapshots: 0, kept: 1") {
		t.Errorf("%v\n%s", err, out)
	}
}
