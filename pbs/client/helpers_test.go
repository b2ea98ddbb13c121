package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

var (
	group  = naming.Group{Type: naming.Host, ID: "elsa"}
	first  = naming.Snapshot{Group: group, Time: 1700000000}
	second = naming.Snapshot{Group: group, Time: 1700003600}
	key    = chunks.NewKey([chunks.KeySize]byte{7})
)

// config returns how to reach a server.
func config(t testing.TB, addr, fingerprint string) client.Config {
	t.Helper()
	r, err := client.ParseRepository("elsa@pbs@" + addr + ":" + pbstest.Store)
	if err != nil {
		t.Fatal(err)
	}
	return client.Config{Repository: r, Password: "secret", Fingerprint: fingerprint}
}

func connect(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A recorder keeps the requests that a server gets, in their order, and may
// do something about one of them.
type recorder struct {
	mu    sync.Mutex
	lines []string
	is    func(n int, line string) bool // the request that is waited for
	do    func() error                  // what to do then, once
}

func (r *recorder) see(req *http.Request) error {
	path := strings.TrimPrefix(req.URL.Path, "/api2/json")
	line := req.Method + " " + path
	if name := req.URL.Query().Get("archive-name") + req.URL.Query().Get("file-name"); name != "" {
		line += " " + name
	}
	r.mu.Lock()
	r.lines = append(r.lines, line)
	do := r.do
	if do == nil || !r.is(len(r.lines), line) {
		r.mu.Unlock()
		return nil
	}
	r.do = nil
	r.mu.Unlock()
	return do()
}

// on has something done when a request comes for the first time.
func (r *recorder) on(line string, do func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is, r.do = func(_ int, got string) bool { return got == line }, do
}

// refuseNumber has a request refused by its number, from 1.
func (r *recorder) refuseNumber(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is, r.do = func(got int, _ string) bool { return got == n }, func() error { return err }
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// serve starts a server whose requests are recorded.
func serve(t testing.TB) (*pbstest.Server, *recorder) {
	t.Helper()
	rec := &recorder{}
	srv := pbstest.New(t, pbstest.NewDatastore(t))
	srv.Before = rec.see
	return srv, rec
}

// A sample is something to back up: a directory, an image and a small file.
type sample struct {
	dir          string
	image, files []byte
}

// newSample writes a sample whose contents follow from seed: an image of 9.5
// MiB that is mostly zeros, and a directory with a file of 3 MiB.
func newSample(t testing.TB, seed uint64) sample {
	t.Helper()
	r := rand.NewChaCha8([32]byte{byte(seed)})
	s := sample{image: make([]byte, 9<<20+512<<10), files: make([]byte, 3<<20)}
	r.Read(s.image[:1<<20])
	r.Read(s.image[9<<20:])
	r.Read(s.files)
	return s.write(t)
}

// smallSample is a sample of which there is little to send.
func smallSample(t testing.TB, seed uint64) sample {
	t.Helper()
	r := rand.NewChaCha8([32]byte{byte(seed)})
	s := sample{image: make([]byte, 4<<20+1), files: make([]byte, 64<<10)}
	r.Read(s.image[:64])
	r.Read(s.files)
	return s.write(t)
}

// write writes the files of a sample.
func (s sample) write(t testing.TB) sample {
	t.Helper()
	s.dir = t.TempDir()
	for name, data := range map[string][]byte{
		"disk": s.image, "etc.conf": []byte("key = value\n"), "root/a/large": s.files, "root/small": []byte("small\n"),
	} {
		name = filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s sample) sources(t testing.TB) []archive.Source {
	t.Helper()
	var all []archive.Source
	for _, text := range []string{"root.pxar:" + s.dir + "/root", "disk.img:" + s.dir + "/disk", "etc.conf:" + s.dir + "/etc.conf"} {
		src, err := archive.ParseSource(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, src)
	}
	return all
}

// backUp makes a backup from beginning to end.
func backUp(ctx context.Context, t testing.TB, c *client.Client, s naming.Snapshot, from sample, key *chunks.Key) (archive.Summary, error) {
	t.Helper()
	b, err := c.Begin(ctx, "", s, key)
	if err != nil {
		return archive.Summary{}, err
	}
	defer b.Abort()
	m, sum, err := archive.Backup(ctx, archive.Config{Target: b, Snapshot: s, Sources: from.sources(t), Key: key})
	if err != nil {
		return sum, err
	}
	return sum, b.Finish(ctx, m)
}

// restore reads all of a snapshot and compares it with the sample.
func restore(ctx context.Context, t testing.TB, c *client.Client, s naming.Snapshot, want sample, key *chunks.Key) error {
	t.Helper()
	origin, err := c.OpenSnapshot(ctx, "", s)
	if err != nil {
		return err
	}
	defer origin.Close()
	snap := archive.Open(origin, archive.Options{Key: key})
	var file, conf bytes.Buffer
	image := filepath.Join(t.TempDir(), "disk")
	err = errors.Join(
		snap.Save(ctx, "disk.img.fidx", image),
		snap.WriteFile(ctx, "root.pxar.didx", "a/large", &file),
		snap.Stream(ctx, "etc.conf.blob", &conf),
	)
	if err != nil {
		return err
	}
	got, err := os.ReadFile(image)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(got, want.image):
		return errors.New("the image differs")
	case !bytes.Equal(file.Bytes(), want.files):
		return errors.New("the file differs")
	case conf.String() != "key = value\n":
		return errors.New("the small file differs")
	}
	return nil
}

// certificateOf returns the fingerprint of a test server's certificate.
func certificateOf(srv *httptest.Server) string {
	return chunks.Fingerprint(sha256.Sum256(srv.Certificate().Raw)).String()
}
