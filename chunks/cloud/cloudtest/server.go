// Package cloudtest lends tests a real S3 server, and a proxy in front of it
// that counts requests and injects faults.
//
// The server is versitygw, pinned by simulations/s3server, a module of its own.
// It is built once per machine, which takes some minutes, and started per
// test, which takes milliseconds. HOLDFAST_VERSITYGW names a binary to use
// instead. A test that cannot have a server fails: it is never skipped.
package cloudtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// The credentials and the region of every server here.
const (
	Key    = "holdfast"
	Secret = "holdfast-secret"
	Region = "us-east-1"
	Name   = "backups" // the bucket that every server begins with
)

const tool = "github.com/versity/versitygw/cmd/versitygw"

// A Server is a running S3 server with one empty bucket.
type Server struct {
	URL string
	Dir string // where it keeps objects, as plain files
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatalf("no S3 server to test against: %v", err)
	}
	s, stop, err := Run(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// Empty removes everything from the bucket, for tests that share a server.
func (s *Server) Empty(t testing.TB) {
	t.Helper()
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.RemoveAll(filepath.Join(s.Dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// Build returns the path of the server's binary.
func Build() (string, error) { return build() }

// Run starts the binary on a free port of the loopback interface, with its
// files below dir. stop ends it and waits.
func Run(binary, dir string) (s *Server, stop func(), err error) {
	for range 5 { // a port may be taken between the look and the start
		if s, stop, err = run(binary, dir); err == nil {
			return s, stop, nil
		}
	}
	return nil, nil, fmt.Errorf("start %s: %w", binary, err)
}

func run(binary, dir string) (*Server, func(), error) {
	for _, d := range []string{"objects/" + Name, "versions", "users"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			return nil, nil, err
		}
	}
	addr, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	objects := filepath.Join(dir, "objects")
	var said bytes.Buffer
	cmd := exec.Command(binary, "--quiet", "--keep-alive", "--health", "/healthz", "--port", addr, "--region", Region,
		"--access", Key, "--secret", Secret, "--iam-dir", filepath.Join(dir, "users"),
		"posix", objects)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	stop := func() { _ = cmd.Process.Kill(); <-done }
	s := &Server{URL: "http://" + addr, Dir: filepath.Join(objects, Name)}
	if err := s.await(done); err != nil {
		stop()
		return nil, nil, fmt.Errorf("%w: %s", err, said.Bytes())
	}
	return s, stop, nil
}

// await waits until the server answers.
func (s *Server) await(done <-chan struct{}) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		select {
		case <-done:
			return errors.New("it ended at once")
		case <-time.After(5 * time.Millisecond):
		}
		resp, err := client.Get(s.URL + "/healthz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("it does not answer")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// build makes the binary unless this machine has it.
var build = sync.OnceValues(func() (string, error) {
	if ready := os.Getenv("HOLDFAST_VERSITYGW"); ready != "" {
		return ready, nil
	}
	_, here, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(here), "../../../simulations/s3server")
	sum := sha256.New()
	for _, f := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(module, f))
		if err != nil {
			return "", fmt.Errorf("the module of the server: %w", err)
		}
		sum.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "holdfast-test")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	name := fmt.Sprintf("versitygw-%s-%s", hex.EncodeToString(sum.Sum(nil))[:12], runtime.Version())
	return compile(module, filepath.Join(dir, name))
})

// compile builds the tool of module as file, unless it is there. Tests of
// several packages run at once; one of them builds, the others wait.
func compile(module, file string) (string, error) {
	for {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		lock, err := (disk.OS{}).Lock(file + ".lock")
		if errors.Is(err, disk.ErrLocked) {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		if err != nil {
			return "", err
		}
		defer lock.Close()
		break
	}
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-o", file+".tmp", tool)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s in %s: %w: %s", tool, module, err, out)
	}
	return file, os.Rename(file+".tmp", file)
}

// Account returns an account of the server.
func Account(t testing.TB, cfg bucket.AccountConfig) *bucket.Account {
	t.Helper()
	cfg.Key, cfg.Secret = Key, Secret
	acc, err := bucket.NewAccount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acc.Close)
	return acc
}

// Full are the abilities of the server.
var Full = bucket.Capabilities{
	CreateOnce: true, Replace: true, Races: true, CRC32C: true, MD5: true,
	DeleteMany: true, DeleteIf: true, Ranges: true, Lists: true, OddKeys: true,
}

// Open returns the bucket at url, quick to give up and relying on all that the
// server can do.
func Open(t testing.TB, url string) *bucket.Bucket {
	t.Helper()
	b, err := bucket.New(bucket.Config{
		Endpoint: url, Region: Region, Bucket: Name, PathStyle: true, Can: Full,
		Account: Account(t, bucket.AccountConfig{}), Backoff: 2 * time.Millisecond, Attempts: 4, Stall: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
