package reader_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

const (
	owner   = "alice@pbs"
	archive = "root.pxar.didx"
	target  = "//api2/json/reader?store=" + pbstest.Store + "&backup-type=vm&backup-id=1&backup-time="
)

func content(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "chunk %03d ", i), 100) }

// newSite returns a server with one snapshot of n chunks, vm/1 at 1000.
func newSite(t *testing.T, n int) (*pbstest.Server, []chunks.Digest) {
	t.Helper()
	return newSiteOn(t, n, pbstest.NewDatastore(t))
}

func newSiteOn(t *testing.T, n int, d *catalog.Datastore) (*pbstest.Server, []chunks.Digest) {
	t.Helper()
	snap := naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "1"}, Time: 1000}
	w, err := d.Begin(t.Context(), "", snap, owner)
	if err != nil {
		t.Fatal(err)
	}
	var b chunks.DynamicBuilder
	var digests []chunks.Digest
	for i := range n {
		blob, err := chunks.Encode(nil, content(i), chunks.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, chunks.Sum(content(i)))
		if _, err := w.Session().Put(t.Context(), digests[i], blob); err != nil {
			t.Fatal(err)
		}
		if err := b.Append(b.End()+int64(len(content(i))), digests[i]); err != nil {
			t.Fatal(err)
		}
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.New(snap)
	if err := m.Add(manifest.File{Name: archive, Size: uint64(x.Size()), Csum: x.Csum()}); err != nil {
		t.Fatal(err)
	}
	if err := w.PutIndex(archive, x); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return pbstest.New(t, d), digests
}

func connect(t *testing.T, s *pbstest.Server) *pbstest.Client {
	t.Helper()
	c, a := s.Connect(t, target+"1000", upgrade.Reader, owner)
	if c == nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return c
}

func get(t *testing.T, c *pbstest.Client, path string, status int, text string) []byte {
	t.Helper()
	a, err := c.Do("GET", path, "", nil)
	if err != nil || a.Status != status || !strings.Contains(string(a.Body), text) {
		t.Errorf("%s: %d %.100q, %v; want %d %s", path, a.Status, a.Body, err, status, text)
	}
	return a.Body
}

// Only chunks of an index that was downloaded on the same connection are
// handed out (§4.2).
func TestChunksComeAfterTheirIndex(t *testing.T) {
	s, digests := newSite(t, 3)
	c := connect(t, s)
	defer c.Close()
	get(t, c, "/chunk?digest="+digests[0].String(), http.StatusUnauthorized, "download chunk "+digests[0].String()+" not allowed")
	get(t, c, "/download?file-name=index.json.blob", http.StatusOK, "")
	get(t, c, "/chunk?digest="+digests[0].String(), http.StatusUnauthorized, "not allowed")
	get(t, c, "/download?file-name="+archive, http.StatusOK, "")
	for i, d := range digests {
		blob := chunks.Blob(get(t, c, "/chunk?digest="+d.String(), http.StatusOK, ""))
		if plain, err := blob.Decode(nil, nil); err != nil || !bytes.Equal(plain, content(i)) {
			t.Errorf("chunk %d is another: %v", i, err)
		}
	}
	get(t, c, "/chunk?digest="+chunks.Sum(nil).String(), http.StatusUnauthorized, "not allowed")
	other := connect(t, s)
	defer other.Close()
	get(t, other, "/chunk?digest="+digests[0].String(), http.StatusUnauthorized, "not allowed")
}

func TestRefusedRequests(t *testing.T) {
	s, _ := newSite(t, 3)
	c := connect(t, s)
	defer c.Close()
	get(t, c, "/download?file-name=client.log.blob", http.StatusNotFound, `open file "store1/vm/1/1970-01-01T00:16:40Z/client.log.blob" failed - not found`)
	get(t, c, "/download?file-name=nope.didx", http.StatusNotFound, "failed - not found")
	get(t, c, "/download?file-name=../owner", http.StatusBadRequest, "parameter verification failed - 'file-name'")
	get(t, c, "/download", http.StatusBadRequest, "parameter is missing and it is not optional.")
	get(t, c, "/chunk?digest=zz", http.StatusBadRequest, "parameter verification failed - 'digest'")
	if body := get(t, c, "/speedtest", http.StatusOK, ""); len(body) != 1<<20 || strings.Trim(string(body), "A") != "" {
		t.Errorf("the speed test has %d bytes", len(body))
	}
}

func TestRefusedUpgrades(t *testing.T) {
	s, _ := newSite(t, 1)
	for _, tt := range []struct{ name, target, protocol, want string }{
		{"a snapshot that there is not", target + "1001", upgrade.Reader, "snapshot vm/1/1970-01-01T00:16:41Z does not exist."},
		{"a namespace that there is not", target + "1000&ns=a", upgrade.Reader, "snapshot vm/1/1970-01-01T00:16:40Z does not exist."},
		{"another protocol", target + "1000", upgrade.Backup, "invalid protocol name"},
		{"a time that is none", target + "x", upgrade.Reader, "parameter verification failed - 'backup-time'"},
	} {
		if c, a := s.Connect(t, tt.target, tt.protocol, owner); c != nil || a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), tt.want) {
			t.Errorf("%s: %d %s, want %s", tt.name, a.Status, a.Body, tt.want)
		}
	}
}

// A snapshot is not removed while it is read, and can be when the client has
// gone; one that is being made is not read.
func TestReadingHoldsTheSnapshot(t *testing.T) {
	s, _ := newSite(t, 1)
	snap := naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "1"}, Time: 1000}
	c := connect(t, s)
	if err := s.Datastore.Forget(t.Context(), "", snap); err == nil || !strings.Contains(err.Error(), "possibly running or in use") {
		t.Errorf("forget while it is read: %v", err)
	}
	c.Close()
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
	if err := s.Datastore.Forget(t.Context(), "", snap); err != nil {
		t.Errorf("forget afterwards: %v", err)
	}
	snap.Time = 2000
	w, err := s.Datastore.Begin(t.Context(), "", snap, owner)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if c, a := s.Connect(t, target+"2000", upgrade.Reader, owner); c != nil || !strings.Contains(string(a.Body), "locked by another operation") {
		t.Errorf("reading what is being made: %d %s", a.Status, a.Body)
	}
}

// In order, in order with many requests under way, backwards, at random:
// every chunk is the right one, read ahead or not.
func TestChunksInAnyOrder(t *testing.T) {
	const n = 300
	s, digests := newSite(t, n)
	for name, at := range map[string]func(i int) int{
		"forwards":  func(i int) int { return i },
		"backwards": func(i int) int { return n - 1 - i },
		"in leaps":  func(i int) int { return i * 7 % n },
	} {
		for _, together := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s, %d at a time", name, together), func(t *testing.T) {
				c := connect(t, s)
				defer c.Close()
				get(t, c, "/download?file-name="+archive, http.StatusOK, "")
				var g errgroup.Group
				g.SetLimit(together)
				for i := range n {
					g.Go(func() error {
						a, err := c.Do("GET", "/chunk?digest="+digests[at(i)].String(), "", nil)
						if err != nil {
							return err
						}
						if plain, err := chunks.Blob(a.Body).Decode(nil, nil); err != nil || !bytes.Equal(plain, content(at(i))) {
							return fmt.Errorf("chunk %d is another: %w", at(i), err)
						}
						return nil
					})
				}
				if err := g.Wait(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
