package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// shared are two sites with datastores in the same bucket: b owns it.
type shared struct {
	t     *testing.T
	proxy *cloudtest.Proxy
	tree  string
	a, b  *daemon
}

func newShared(t *testing.T) *shared {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	s := &shared{t: t, proxy: cloudtest.Front(t, cloudtest.Start(t)), tree: randomTree(t, 4, 100_000)}
	node := func(name string) *daemon {
		d := &daemon{t: t, name: name, dir: filepath.Join(root, name)}
		t.Cleanup(func() { d.kill(syscall.SIGKILL) })
		return d
	}
	s.a, s.b = node("a"), node("b")
	s.a.must("node", "init", "--name", "a", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t))
	s.a.start()
	var token string
	s.a.wait(patience, "its mesh port is open", func() bool {
		token, err = s.a.holdfast("invite", "create", "-q", "--role", "full")
		return err == nil
	})
	// Refused before the token is used: it is good for the next one.
	if _, err := s.b.holdfastWith(token, "node", "join", "-", "--replaces", "nobody", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)); err == nil || !strings.Contains(err.Error(), "no node was removed") {
		t.Fatalf("it takes the place of nobody: %v", err)
	}
	if _, err := s.b.holdfastWith(token, "node", "join", "-", "--name", "b", "--listen", "127.0.0.1:0", "--mesh-listen", freeMeshPort(t)); err != nil {
		t.Fatal(err)
	}
	s.b.start()
	s.b.wait(patience, "it takes part", func() bool { return s.b.status().Quorum })
	t.Setenv("HOLDFAST_S3_SECRET", cloudtest.Secret)
	key := filepath.Join(root, "key")
	for _, d := range []*daemon{s.a, s.b} {
		d.must("s3", "endpoint", "create", "of-"+d.name, "--endpoint", s.proxy.URL, "--access-key", cloudtest.Key, "--path-style")
		args := []string{"datastore", "create", "cloud", "--s3", "of-" + d.name, "--bucket", cloudtest.Name, "--cache-dir", d.dir + "-cache", "--offload-after", "0", "--recovery-key", key}
		if d == s.a {
			d.must(append(args, "--encrypt")...)
		} else {
			d.must(append(args, "--reuse", "--take-over")...)
		}
	}
	s.a.wait(patience, "it has heard of the other datastore, and of its new owner", func() bool {
		out, err := s.a.holdfastAll("datastore", "audit", "cloud")
		return err == nil && strings.Contains(out, "node b owns this bucket until ")
	})
	return s
}

// hold stops an offload of b in the middle: when a pack is on its way. The function
// that it returns lets go.
func (s *shared) hold() (done chan string, release func()) {
	s.t.Helper()
	s.b.must("backup", "tree.pxar:"+randomTree(s.t, 4, 100_000), "--store", "cloud", "-q")
	arrived, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" && strings.Contains(r.Key, "/p/") {
			once.Do(func() { close(arrived) })
			<-gate
		}
		return nil
	})
	release = sync.OnceFunc(func() { s.proxy.On(nil); close(gate) })
	s.t.Cleanup(release)
	done = make(chan string, 1)
	go func() {
		out, err := s.b.holdfastAll("datastore", "offload", "cloud")
		if err != nil {
			out += err.Error()
		}
		done <- out
	}()
	<-arrived
	return done, release
}

// did runs a verb about the bucket, and returns what its task said.
func (s *shared) did(d *daemon, verb string) string {
	s.t.Helper()
	out, err := d.holdfastAll("datastore", verb, "cloud")
	if err != nil {
		s.t.Fatalf("%s: %s: %v\n%s", d.name, verb, err, out)
	}
	return out
}

// work is what either node may do to the bucket.
var work = []string{"offload", "audit", "gc"}

// Two daemons have datastores in one bucket. One works on it at a time; the other is
// told which, and asks the bucket nothing meanwhile. When the node that worked is
// lost, in the middle of it, the other can take the bucket over, and nothing is lost.
func TestTwoDaemonsShareABucket(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	s := newShared(t)
	s.b.must("backup", "tree.pxar:"+s.tree, "--store", "cloud", "--backup-id", "kept", "-q")
	s.b.must("datastore", "offload", "cloud")

	done, release := s.hold()
	s.proxy.Reset()
	for _, verb := range work {
		if out := s.did(s.a, verb); !strings.Contains(out, "node b works on this bucket now") {
			t.Errorf("%s while b is at it:\n%s", verb, out)
		}
	}
	if n := s.proxy.Total(); n != 0 {
		t.Errorf("the node that has not the claim asked the bucket %v", s.proxy.Counts())
	}
	release()
	if out := <-done; !strings.Contains(out, "requests to the store: ") || !strings.Contains(out, " put") {
		t.Errorf("the offload of b:\n%s", out)
	}
	for _, verb := range work {
		if out := s.did(s.a, verb); !strings.Contains(out, "node b owns this bucket until ") {
			t.Errorf("%s of the node that does not own the bucket:\n%s", verb, out)
		}
		if out := s.did(s.b, verb); !strings.Contains(out, "requests to the store: ") {
			t.Errorf("%s of the owner:\n%s", verb, out)
		}
	}

	done, release = s.hold()
	s.b.kill(syscall.SIGKILL)
	<-done
	release()
	s.a.wait(patience, "the claim of the lost node ends", func() bool {
		out, err := s.a.holdfastAll("datastore", "gc", "cloud")
		return err == nil && strings.Contains(out, "node b owns this bucket until ")
	})
	if out, err := s.a.holdfastAll("datastore", "take-over", "cloud"); err == nil || !strings.Contains(out, "node b has it until ") {
		t.Errorf("a take-over while the lease in the bucket holds: %v\n%s", err, out)
	}
	s.a.must("datastore", "take-over", "cloud", "--force")
	for _, verb := range work {
		if out := s.did(s.a, verb); !strings.Contains(out, "requests to the store: ") {
			t.Errorf("%s of the new owner:\n%s", verb, out)
		}
	}
	to := filepath.Join(t.TempDir(), "back")
	s.a.must("restore", "host/kept", "tree.pxar", to, "--store", "cloud", "-q")
	sameTrees(t, s.tree, to)

	// The old owner comes back, keeps what it has, and leaves the bucket alone.
	s.b.start()
	s.b.wait(patience, "it hears that the bucket was taken", func() bool {
		out, err := s.b.holdfastAll("datastore", "audit", "cloud")
		return err == nil && strings.Contains(out, "node a owns this bucket until ")
	})
}
