package main

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/pbs/client"
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

// begun begins a backup of an image, and returns when all of it is stored and
// nothing is finished.
func (d *daemon) begun(content []byte) *client.Backup {
	d.t.Helper()
	ctx := d.t.Context()
	c, err := client.New(client.Config{Repository: client.Repository{Store: "main"}, Socket: filepath.Join(d.dir, "admin.sock")})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(c.Close)
	b, err := c.Begin(ctx, "", naming.Snapshot{Group: naming.Group{Type: "host", ID: "cut"}, Time: 1_700_000_000}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(b.Abort)
	const size = 4 << 20
	s, err := b.Open(ctx, "disk.img.fidx", int64(len(content)))
	if err != nil {
		d.t.Fatal(err)
	}
	built, err := chunks.NewFixedBuilder(int64(len(content)), size)
	if err != nil {
		d.t.Fatal(err)
	}
	for off := 0; off < len(content); off += size {
		piece := content[off : off+size]
		c := chunks.Stored{Offset: int64(off), Size: size, Digest: chunks.Sum(piece)}
		blob, err := chunks.Encode(nil, piece, chunks.EncodeOptions{})
		if err == nil {
			_, err = s.Put(ctx, c.Digest, blob)
		}
		if err := errors.Join(err, s.Append(ctx, c), built.Put(c.Offset, size, c.Digest)); err != nil {
			d.t.Fatal(err)
		}
	}
	idx, err := built.Finish(chunks.NewUUID(), time.Now())
	if err := errors.Join(err, s.Close(ctx, idx)); err != nil {
		d.t.Fatal(err)
	}
	return b
}

// used returns the bytes on disk of all files in a directory.
func used(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			n += st.Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A daemon that is told to end does so, whatever runs: a backup is cut off and
// leaves chunks that the next one uses, a collection of garbage just ends.
func TestTermDuringBackupAndCollection(t *testing.T) {
	t.Parallel()
	d, _ := newDaemon(t)
	file := filepath.Join(t.TempDir(), "disk")
	content := chunktest.Random(1, 32<<20)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	running := d.begun(content)
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
	if err := running.PutBlob(t.Context(), "late.blob", chunks.Blob("x")); err == nil {
		t.Error("the backup goes on without a daemon")
	}
	if left, err := os.ReadDir(d.dir + ".store/running"); err == nil && len(left) > 0 {
		t.Errorf("%d notes of running backups are left", len(left))
	}
	d.start()
	if out := d.must("snapshot", "list", "--output-format", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("of the backup that was cut off is left %s", out)
	}
	before := used(t, d.dir+".store")
	d.must("backup", "disk.img:"+file, "--backup-id", "cut", "-q")
	if more := used(t, d.dir+".store") - before; more > int64(len(content))/2 {
		t.Errorf("the next backup takes %d bytes more: what was uploaded before is of no use", more)
	}
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
