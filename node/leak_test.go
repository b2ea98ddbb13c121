package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// ours are the stacks of goroutines that are at work in the project, by what
// began them.
func ours() map[string]int {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	found := map[string]int{}
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		_, begun, ok := strings.Cut(g, "created by ")
		if !ok || strings.Contains(g, "testing.tRunner") || strings.Contains(begun, "testing.") || strings.Contains(g, "os/signal") {
			continue
		}
		begun, _, _ = strings.Cut(begun, "\n")
		begun, _, _ = strings.Cut(begun, " in goroutine")
		found[begun]++
	}
	return found
}

// leaks fails if, some time after, more goroutines are there than before. What
// package net ends on its own has ten seconds.
func leaks(t *testing.T, before map[string]int) {
	t.Helper()
	var left map[string]int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = map[string]int{}
		for begun, n := range ours() {
			if n > before[begun] {
				left[begun] = n - before[begun]
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("goroutines are left: %v", left)
}

// files returns the open files of this process that are in dir.
func files(t *testing.T, dir string) (open []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc on this system")
	}
	for _, f := range list {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(to, dir) {
			open = append(open, to)
		}
	}
	return open
}

// After Run nothing is left: no goroutine, no open file.
func TestRunLeavesNothing(t *testing.T) {
	c := initialised(t)
	c.MetricsListen = "127.0.0.1:0"
	before := ours()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client := http.Client{Transport: tr}
	if resp, err := client.Get("https://" + n.Address().String() + "/health"); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	idle, err := net.Dial("tcp", n.Address().String()) // says nothing, ever
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	tr.CloseIdleConnections()
	leaks(t, before)
	if open := files(t, c.Dir); len(open) > 0 {
		t.Errorf("open files are left: %q", open)
	}
}

// A node that cannot start says why, and leaves nothing either: the next try,
// after the cure, works.
func TestFailedStartLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		harm func(c *Config) error
		want string
	}{
		"the port is in use":              {func(c *Config) error { c.Listen = taken.Addr().String(); return nil }, "address already in use"},
		"the port for monitors is in use": {func(c *Config) error { c.MetricsListen = taken.Addr().String(); return nil }, "address already in use"},
		"the certificate is none":         {func(c *Config) error { return os.WriteFile(c.at(certFile), []byte("x"), 0o600) }, "certificate"},
		"the identity is gone":            {func(c *Config) error { return os.Remove(c.at(identityFile)) }, "identity"},
		"the authority makes no sense":    {func(c *Config) error { return os.WriteFile(c.at(clusterDir+"/authority"), []byte("{"), 0o600) }, "authority"},
		"the guard makes no sense": {func(c *Config) error {
			return errors.Join(os.WriteFile(c.at("cluster/guard.1"), []byte("0123456789abcdef"), 0o600), os.WriteFile(c.at("cluster/guard.2"), []byte("0123456789abcdef"), 0o600))
		}, "guard"},
		"the old accounts make no sense":  {func(c *Config) error { return oldFile(c, accountsFile) }, "accounts"},
		"the old settings make no sense":  {func(c *Config) error { return oldFile(c, settingsFile) }, "settings"},
		"the directory is open to others": {func(c *Config) error { return os.Chmod(c.Dir, 0o755) }, "others may look"},
		"tasks is a file": {func(c *Config) error {
			if err := os.Remove(c.at(tasksDir)); err != nil {
				return err
			}
			return os.WriteFile(c.at(tasksDir), nil, 0o600)
		}, "tasks"},
	} {
		t.Run(name, func(t *testing.T) {
			c := initialised(t)
			if err := tt.harm(&c); err != nil {
				t.Fatal(err)
			}
			before := ours()
			n, err := New(c)
			if err == nil {
				n.Close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, which does not say %q", err, tt.want)
			}
			leaks(t, before)
			if open := files(t, c.Dir); len(open) > 0 {
				t.Errorf("open files are left: %q", open)
			}
		})
	}
}

// A datastore that is missing is no reason not to start: the others are served,
// and the node says that it is not ready.
func TestStartWithoutADatastore(t *testing.T) {
	c := initialised(t)
	before := ours()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.cluster.Run(ctx) }() // settings are in its ledger
	err = n.settings.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "lost", Path: filepath.Join(t.TempDir(), "nothing")})
		return nil
	})
	stop()
	if err := errors.Join(err, <-ran, n.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err = New(c); err != nil {
		t.Fatalf("a node with a datastore that is missing does not start: %v", err)
	}
	if err := n.ready(); err == nil || !strings.Contains(err.Error(), "1 of 1 datastores") {
		t.Errorf("ready: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	leaks(t, before)
}

// With its mesh port in use, status said "listen at port 8301 of the tunnel: bad local
// address": not which port, nor what to do. And it stayed so until the node was started
// again, in a cluster of one without a quorum, though the port was free a moment later.
func TestMeshPortInUse(t *testing.T) {
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := initialised(t)
	c.MeshListen = taken.LocalAddr().String()
	want := "the mesh port " + c.MeshListen + " is in use by another program"
	linked := func() (n *Node, stop func()) {
		if n, err = New(c); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- n.runLink(ctx) }()
		return n, func() {
			cancel()
			if err := errors.Join(<-ran, n.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	n, stop := linked()
	for len(n.raised.List()) == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if a := n.raised.List(); !strings.Contains(a[0].Text, want) || !strings.Contains(a[0].Hint, "mesh-listen") {
		t.Errorf("%+v", a)
	}
	if l, err := n.link.Network().Listen(8301); err != nil { // the ledger of a cluster of one goes on
		t.Errorf("what goes over the link says %v", err)
	} else {
		l.Close()
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	for len(n.raised.List()) > 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	for t.Context().Err() == nil { // it goes on by itself, and has the port
		if conn, err := net.Dial("tcp4", c.MeshListen); err == nil {
			conn.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
}

// oldFile makes a node one from before there were clusters, with a damaged file
// that a cluster would have to take over.
func oldFile(c *Config, file string) error {
	return errors.Join(os.RemoveAll(c.at(clusterDir)), os.Remove(guard.HeadOf(c.at(clusterDir))), os.WriteFile(c.at(file), []byte("{"), 0o600))
}
