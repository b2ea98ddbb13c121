package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A store moves to another provider. The node is killed in the middle, and the verb
// that is given again goes on where it was: nothing is copied twice but what was on
// its way, and what is restored from the new home is what was backed up.
func TestMigrateIsKilledAndGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	near, far := cloudtest.Front(t, cloudtest.Start(t)), cloudtest.Front(t, cloudtest.Start(t))
	d := &daemon{t: t, name: "a", dir: filepath.Join(root, "a")}
	t.Cleanup(func() { d.kill(syscall.SIGKILL) })
	d.must("node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	d.start()
	t.Setenv("HOLDFAST_S3_SECRET", cloudtest.Secret)
	for name, p := range map[string]*cloudtest.Proxy{"near": near, "far": far} {
		d.must("s3", "endpoint", "create", name, "--endpoint", p.URL, "--access-key", cloudtest.Key, "--path-style", "--prices", "storage=0.01,put=0.005,get=0.0004,list=0.005,egress=0.09")
	}
	d.must("datastore", "create", "cloud", "--s3", "near", "--bucket", cloudtest.Name, "--cache-dir", d.dir+"-cache", "--encrypt", "--offload-after", "0", "--recovery-key", filepath.Join(root, "key"))
	tree := randomTree(t, 4, 100_000)
	for i := range 5 {
		d.must("backup", "tree.pxar:"+tree, "--store", "cloud", "--backup-id", fmt.Sprint("guest", i), "-q")
		d.must("datastore", "offload", "cloud")
		tree = randomTree(t, 4, 100_000)
	}
	d.must("backup", "tree.pxar:"+tree, "--store", "cloud", "--backup-id", "kept", "-q")
	d.must("datastore", "offload", "cloud")
	if out := d.must("s3", "endpoint", "runs", "near"); !strings.Contains(out, "forecast") || !strings.Contains(out, "counted") || !strings.Contains(out, "USD") {
		t.Errorf("runs:\n%s", out)
	}

	migrate := []string{"datastore", "migrate", "cloud", "--s3", "far", "--bucket", cloudtest.Name, "--prefix", "moved/", "--home"}
	if out := d.must(append(migrate, "--dry-run")...); !strings.Contains(out, "USD") {
		t.Errorf("the plan:\n%s", out)
	}
	var mu sync.Mutex
	puts, arrived, gate := map[string]int{}, make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	far.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class != "put" || !strings.Contains(r.Key, "/hf1/") || strings.HasSuffix(r.Key, "/owner") || strings.Contains(r.Key, "probe") {
			return nil
		}
		mu.Lock()
		puts[r.Key]++
		n := len(puts)
		mu.Unlock()
		if n == 9 {
			close(arrived)
		}
		if n >= 9 {
			<-gate
		}
		return nil
	})
	done := make(chan struct{})
	go func() { defer close(done); _, _ = d.holdfastAll(migrate...) }()
	<-arrived
	d.kill(syscall.SIGKILL)
	<-done
	far.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" {
			mu.Lock()
			puts[r.Key]++
			mu.Unlock()
		}
		return nil
	})
	release()
	d.start()
	d.wait(patience, "the datastore is open", func() bool { _, err := d.holdfast("datastore", "show", "cloud"); return err == nil })
	if out, err := d.holdfastAll(migrate...); err != nil || !strings.Contains(out, "the home of 'cloud' is") {
		t.Fatalf("migrate again: %v\n%s", err, out)
	}
	mu.Lock()
	twice := 0
	for key, n := range puts {
		if n > 1 && strings.Contains(key, "/hf1/") && !strings.HasSuffix(key, "/owner") {
			twice++
		}
	}
	all := len(puts)
	mu.Unlock()
	t.Logf("%d objects, %d were on their way when the node was killed", all, twice)
	if twice > 16 || all < 20 { // so many go at the same time
		t.Errorf("%d of %d objects were copied twice", twice, all)
	}
	near.Reset()
	to := filepath.Join(t.TempDir(), "back")
	d.must("restore", "host/kept", "tree.pxar", to, "--store", "cloud", "-q")
	sameTrees(t, tree, to)
	if out, err := d.holdfastAll("datastore", "audit", "cloud"); err != nil || !strings.Contains(out, "0 packs are missing") {
		t.Errorf("audit of the new home: %v\n%s", err, out)
	}
	if n := near.Total(); n != 0 {
		t.Errorf("the old bucket was asked %v", near.Counts())
	}
}
