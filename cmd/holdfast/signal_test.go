package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/node/certificate"
)

// newDaemon makes a node with a datastore and runs it. Clients reach it at the
// address.
func newDaemon(t *testing.T) (d *daemon, address string) {
	t.Helper()
	root, err := os.MkdirTemp("", "hf") // short: there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	d, address = &daemon{t: t, name: "one", dir: filepath.Join(root, "one")}, freeMeshPort(t)
	t.Cleanup(func() { d.kill(syscall.SIGKILL) })
	d.must("node", "init", "--name", "one", "--site", "one", "--listen", address, "--mesh-listen", freeMeshPort(t))
	d.start()
	d.must("datastore", "create", "main", "--path", d.dir+".store", "-q")
	return d, address
}

// stopped begins a backup of a file and stops its process in the middle.
func (d *daemon) stopped(file string) *exec.Cmd {
	d.t.Helper()
	used := func() (n int64) {
		packs, _ := filepath.Glob(d.dir + ".store/packs/*")
		for _, p := range packs {
			var st unix.Stat_t
			if unix.Stat(p, &st) == nil {
				n += st.Blocks * 512
			}
		}
		return n
	}
	for range 20 {
		cmd := exec.Command(os.Args[0], "backup", "disk.img:"+file, "--backup-id", "cut", "-q")
		cmd.Env = append(os.Environ(), asHoldfast+"=1", "HOLDFAST_DATA="+d.dir, "PBS_REPOSITORY=")
		before := used()
		if err := cmd.Start(); err != nil {
			d.t.Fatal(err)
		}
		for began := time.Now(); used() < before+4<<20 && time.Since(began) < 20*time.Second; {
			time.Sleep(time.Millisecond)
		}
		_ = cmd.Process.Signal(syscall.SIGSTOP) // it may have ended
		if out := d.must("task", "list"); strings.Contains(out, "backup") {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or it has ended
		if _, err := d.holdfast("snapshot", "list"); err != nil {
			d.t.Fatal(err)
		}
		d.must("group", "forget", "host/cut")
	}
	d.t.Skip("this machine is too fast: every backup had ended before it could be stopped")
	return nil
}

// A daemon that is told to end does so, whatever runs: a backup is cut off and
// leaves chunks that the next one uses, a collection of garbage just ends.
func TestTermDuringBackupAndCollection(t *testing.T) {
	t.Parallel()
	d, _ := newDaemon(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, chunktest.Random(1, 128<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	client := d.stopped(file)
	defer func() {
		_ = client.Process.Kill()
		_ = client.Wait() // killed
	}()
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for err := error(nil); err == nil; {
			_, err = d.holdfast("datastore", "gc", "main", "-q")
		}
	}()
	time.Sleep(200 * time.Millisecond) // some collections
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(time.Minute): // what the unit gives it
		t.Fatal("it has not ended a minute after SIGTERM")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		log, _ := os.ReadFile(d.dir + ".log")
		t.Errorf("it ended with %d: %s", code, log)
	}
	<-collected
	if left, err := os.ReadDir(d.dir + ".store/running"); err == nil && len(left) > 0 {
		t.Errorf("%d notes of running backups are left", len(left))
	}
	d.start()
	if out := d.must("snapshot", "list", "--output-format", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("of the backup that was cut off is left %s", out)
	}
	var made struct {
		Bytes int64 `json:"bytes"`
		New   int64 `json:"new-bytes"`
	}
	out := d.must("backup", "disk.img:"+file, "--backup-id", "cut", "--output-format", "json", "-q")
	var all struct {
		Archives []json.RawMessage
	}
	if err := errors.Join(json.Unmarshal([]byte(out), &all), json.Unmarshal(all.Archives[0], &made)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("of %d bytes %d were new", made.Bytes, made.New)
	d.must("datastore", "verify", "main", "--ignore-verified=false", "-q")
}

// SIGHUP has the daemon show another certificate at once.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	d, address := newDaemon(t)
	shown := func() string {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return certificate.Fingerprint(c.ConnectionState().PeerCertificates[0])
	}
	before := shown()
	chain, key, err := certificate.Make([]string{"other.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// A half that fits nothing: the old one goes on, and so does the daemon.
	if err := os.WriteFile(filepath.Join(d.dir, "tls/key.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	said := func(what string) func() bool {
		return func() bool {
			log, _ := os.ReadFile(d.dir + ".log")
			return strings.Contains(string(log), what)
		}
	}
	_ = d.cmd.Process.Signal(syscall.SIGHUP)
	d.wait(20*time.Second, "it says that the key does not fit", said("reload: something stays as it was"))
	if shown() != before {
		t.Error("half a certificate is shown")
	}
	if err := os.WriteFile(filepath.Join(d.dir, "tls/cert.pem"), chain, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Process.Signal(syscall.SIGHUP)
	d.wait(20*time.Second, "it says that it has reloaded", said("reloaded certificate and log level"))
	if shown() == before {
		t.Error("the old certificate is shown")
	}
}

// A program that does not end when it is told to once, ends when it is told
// again. Here it waits for a file that nobody writes.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "", "key", "show", pipe)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	// The first may come before the program listens, which ends it too.
	time.Sleep(500 * time.Millisecond)
	for range 200 {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGTERM {
				t.Errorf("it ended with %v, not by the signal", cmd.ProcessState)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("it never ends")
}
