package backup_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// §12.2: of two chunks one is new, the other is known from the last index.
func TestDynamicArchiveBuildsOnTheLast(t *testing.T) {
	s := newSite(t)
	s.backUp("host/h", 1000)
	c := s.connect("host/h", 2000, "")
	s.refused(c, `PUT /dynamic_index {"wid":1,"digest-list":["{B}"],"offset-list":[0]}`, 400, "not registered")
	s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx")
	s.refused(c, `PUT /dynamic_index {"wid":1,"digest-list":["{B}"],"offset-list":[0]}`, 400, "no such chunk")
	s.ok(c, "GET /previous?archive-name=index.json.blob", "GET /previous?archive-name=root.pxar.didx", "dynamic 1 E",
		`PUT /dynamic_index {"wid":1,"digest-list":["{E}","{B}"],"offset-list":[0,6]}`,
		"POST /dynamic_close?wid=1&chunk-count=2&size=206&csum={@dyn EB}")
	s.refused(c, "POST /dynamic_close?wid=1&chunk-count=2&size=206&csum={@dyn EB}", 400, "not registered") // as one client does, §13.12
	s.finish(c, snapshot("host/h", 2000), archive("root.pxar.didx", "EB"))
	if ended := s.Wait(); ended[1] != nil {
		t.Errorf("the session ended with: %v", ended[1])
	}
	x, err := s.Datastore.ReadIndex("", snapshot("host/h", 2000), "root.pxar.didx")
	if err != nil || x.Len() != 2 || x.Digest(1) != pieces["B"].digest || x.Size() != 206 {
		t.Errorf("the index has %v chunks, %v", x, err)
	}
}

// §12.3, and §12.4.10: an image of which one chunk changed, and one of which
// nothing did. The client never asks for the index.
func TestImageBuildsOnTheLast(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/1", 1000)
	c := s.connect("vm/1", 2000, "")
	s.ok(c, "POST /fixed_index?archive-name=disk.img.fidx&size=8389608&reuse-csum={@fix YZS}", "fixed 1 Z",
		`PUT /fixed_index {"wid":1,"digest-list":["{Z}"],"offset-list":[0]}`,
		"POST /fixed_close?wid=1&chunk-count=1&size=4194304&csum={@fix ZZS}")
	s.finish(c, snapshot("vm/1", 2000), entry{"disk.img.fidx", 8389608, sumOf("fix", "ZZS")})
	c = s.connect("vm/1", 3000, "")
	s.ok(c, "POST /fixed_index?archive-name=disk.img.fidx&size=8389608&reuse-csum={@fix ZZS}",
		"POST /fixed_close?wid=1&chunk-count=0&size=0&csum={@fix ZZS}")
	s.finish(c, snapshot("vm/1", 3000), entry{"disk.img.fidx", 8389608, sumOf("fix", "ZZS")})
	for _, err := range s.Wait() {
		if err != nil {
			t.Errorf("a session ended with: %v", err)
		}
	}
	checkSnapshots(t, s, 3)
}

// An image whose length is told at its end [4.x].
func TestImageOfUnknownSize(t *testing.T) {
	s := newSite(t)
	c := s.connect("vm/1", 1000, "")
	s.ok(c, "POST /fixed_index?archive-name=a.img.fidx", "fixed 1 Z", "fixed 1 S",
		`PUT /fixed_index {"wid":1,"digest-list":["{Z}","{S}"],"offset-list":[0,4194304]}`)
	s.refused(c, "POST /fixed_close?wid=1&chunk-count=2&size=4195305&csum={@fix ZS}", 400, "unexpected image size (4195305 != 4195304)")
	s.ok(c, "POST /fixed_index?archive-name=a.img.fidx", // the name is free again
		`PUT /fixed_index {"wid":2,"digest-list":["{Z}","{S}"],"offset-list":[0,4194304]}`,
		"POST /fixed_close?wid=2&chunk-count=2&size=4195304&csum={@fix ZS}")
	s.finish(c, snapshot("vm/1", 1000), entry{"a.img.fidx", 4195304, sumOf("fix", "ZS")})
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
}

// A snapshot that failed its verification is no base: everything is to be sent
// again (§3.1).
func TestFailedVerificationForcesAFullBackup(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/1", 1000)
	err := s.Datastore.UpdateManifest("", snapshot("vm/1", 1000), func(m *manifest.Manifest) error {
		return m.SetVerifyState(manifest.VerifyState{State: "failed", UPID: "UPID:a:00000001:00000001:00000001:00000001:verify:x:root@pam:"})
	})
	if err != nil {
		t.Fatal(err)
	}
	c := s.connect("vm/1", 2000, "")
	defer c.Close()
	if data := s.ok(c, "GET /previous_backup_time"); data != "null" {
		t.Errorf("the last backup is %s", data)
	}
	s.refused(c, "GET /previous?archive-name=index.json.blob", 400, "no valid previous backup")
	s.refused(c, "POST /fixed_index?archive-name=disk.img.fidx&size=8389608&reuse-csum={@fix YZS}", 400, "cannot reuse index - no valid previous backup exists")
}

// An index some of whose chunks are gone is no base either, and somebody is
// told. PBS would let the client build on it.
func TestMissingChunksForbidBuildingOnThem(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/1", 1000)
	ref, ok := s.Datastore.Chunks().Lookup(pieces["Y"].digest)
	if !ok {
		t.Fatal("the chunk is not there")
	}
	if err := s.Datastore.Chunks().Quarantine(ref); err != nil {
		t.Fatal(err)
	}
	c := s.connect("vm/1", 2000, "")
	defer c.Close()
	s.refused(c, "GET /previous?archive-name=disk.img.fidx", 400, "1 of its chunks are missing")
	s.refused(c, "POST /fixed_index?archive-name=disk.img.fidx&size=8389608&reuse-csum={@fix YZS}", 400, "cannot reuse index - cannot build on disk.img.fidx")
	s.ok(c, "GET /previous?archive-name=root.pxar.didx")
	if v := s.Verifies(); len(v) == 0 || !strings.Contains(v[0], "vm/1/1970-01-01T00:16:40Z: 1 chunks of disk.img.fidx are missing") {
		t.Errorf("to be verified: %q", v)
	}
}

func TestNewSnapshotsAreVerifiedIfTheDatastoreWants(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/1", 1000)
	if v := s.Verifies(); len(v) != 0 {
		t.Errorf("to be verified: %q", v)
	}
	if err := s.Datastore.SetSettings(catalog.Settings{VerifyNew: true}); err != nil {
		t.Fatal(err)
	}
	s.backUp("vm/1", 2000)
	if v := s.Verifies(); len(v) != 1 || !strings.HasPrefix(v[0], "vm/1/1970-01-01T00:33:20Z") {
		t.Errorf("to be verified: %q", v)
	}
}

func TestUploadStatsLandInTheManifest(t *testing.T) {
	s := newSite(t)
	s.backUp("vm/1", 1000)
	s.backUp("vm/1", 2000) // sends all again, though all is known
	for at, duplicates := range map[int64]uint64{1000: 0, 2000: 5} {
		m, err := s.Datastore.Manifest("", snapshot("vm/1", at))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := m.UploadStats()
		blobs := uint64(len(pieces["A"].blob) + len(manifestBlob(t, snapshot("vm/1", at), wholeBackup()...)))
		want := manifest.UploadStats{Count: 5, Size: 300 + 8389608 + blobs, Duplicates: duplicates}
		for _, name := range []string{"A", "B", "Y", "Z", "S"} {
			want.CompressedSize += uint64(len(pieces[name].blob))
		}
		if !ok || got != want {
			t.Errorf("statistics of %d are %+v, want %+v", at, got, want)
		}
	}
}

// Clients may leave the CRC of a chunk out; what is stored has one (§3.4). That
// of a blob must be right.
func TestCRCOfChunksIsSet(t *testing.T) {
	s := newSite(t)
	c := s.connect("vm/1", 1000, "")
	defer c.Close()
	s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx")
	for _, name := range []string{"A", "E", "S"} {
		p := pieces[name]
		sent := bytes.Clone(p.blob)
		copy(sent[8:12], "oops")
		a, err := c.Do("POST", expand(fmt.Sprintf("/dynamic_chunk?wid=1&digest={%[1]s}&size={%[1]s.n}&encoded-size={%[1]s.e}", name)), "application/octet-stream", sent)
		if err != nil || a.Data() != `"`+p.digest.String()+`"` {
			t.Fatalf("%s: %d %s, %v", name, a.Status, a.Body, err)
		}
		stored, err := s.Datastore.Chunks().Get(t.Context(), p.digest, nil)
		if err != nil || !bytes.Equal(stored, p.blob) {
			t.Errorf("%s is not stored as it would be with its CRC: %v", name, err)
		}
		a, err = c.Do("POST", expand("/blob?file-name=x.blob&encoded-size={"+name+".e}"), "application/octet-stream", sent)
		if err != nil || a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "Data blob has wrong CRC checksum.") {
			t.Errorf("%s as a blob: %d %s, %v", name, a.Status, a.Body, err)
		}
	}
}

// §12.4.17: 200 uploads at the same time, the longest chunks, 1024 entries in
// one append, of one digest at many places and in the wrong order (§13.10).
func TestManyRequestsAtOnce(t *testing.T) {
	s := newSite(t)
	c := s.connect("vm/1", 1000, "")
	s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx", fmt.Sprintf("POST /fixed_index?archive-name=a.img.fidx&size=%d", 1024*chunks.SlotSize))
	var g errgroup.Group
	for i := range upgrade.MaxStream {
		line := []string{"dynamic 1 A", "dynamic 1 B", "dynamic 1 E", "fixed 2 Z"}[i%4]
		if i%67 == 0 {
			line = "dynamic 1 M"
		}
		g.Go(func() error {
			a, err := run(c, line)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%s: %d %s", line, a.Status, a.Body)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var digests, offsets []string
	for i := range 1024 {
		digests = append(digests, `"{Z}"`)
		offsets = append(offsets, fmt.Sprint((1023-i)*chunks.SlotSize))
	}
	s.ok(c, `PUT /fixed_index {"wid":2,"digest-list":[`+strings.Join(digests, ",")+`],"offset-list":[`+strings.Join(offsets, ",")+`]}`)
	letters := strings.Repeat("Z", 1024)
	s.ok(c, fmt.Sprintf("POST /fixed_close?wid=2&chunk-count=1024&size=%d&csum={@fix %s}", 1024*chunks.SlotSize, letters),
		`PUT /dynamic_index {"wid":1,"digest-list":["{M}"],"offset-list":[0]}`,
		"POST /dynamic_close?wid=1&chunk-count=1&size=16777216&csum={@dyn M}")
	s.finish(c, snapshot("vm/1", 1000), archive("root.pxar.didx", "M"), entry{"a.img.fidx", 1024 * chunks.SlotSize, sumOf("fix", letters)})
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
}

// Once finished nothing is taken any more, and the snapshot stays as it is,
// however the connection ends.
func TestNothingFollowsFinish(t *testing.T) {
	s := newSite(t)
	c := s.connect("vm/1", 1000, "")
	s.ok(c, "POST /dynamic_index?archive-name=root.pxar.didx", "dynamic 1 A",
		`PUT /dynamic_index {"wid":1,"digest-list":["{A}"],"offset-list":[0]}`,
		"POST /dynamic_close?wid=1&chunk-count=1&size=100&csum={@dyn A}")
	b := manifestBlob(t, snapshot("vm/1", 1000), archive("root.pxar.didx", "A"))
	for range 2 { // it may be sent again, §11.1.21
		if a, err := c.Do("POST", fmt.Sprintf("/blob?file-name=index.json.blob&encoded-size=%d", len(b)), "application/octet-stream", b); err != nil || a.Status != http.StatusOK {
			t.Fatalf("%d %s, %v", a.Status, a.Body, err)
		}
	}
	s.ok(c, "POST /finish")
	for _, line := range []string{
		"POST /finish", "POST /dynamic_index?archive-name=b.pxar.didx", "POST /fixed_index?archive-name=b.img.fidx&size=9",
		"dynamic 1 B", "POST /blob?file-name=x.blob&encoded-size={A.e} <A", "GET /previous?archive-name=index.json.blob",
	} {
		s.refused(c, line, http.StatusBadRequest, "backup already marked as finished.")
	}
	s.Break()
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
	checkSnapshots(t, s, 1)
}

// A chunk that was sent for one index may be named in another (§13.11).
func TestIndexesShareChunks(t *testing.T) {
	s := newSite(t)
	c := s.connect("host/h", 1000, "")
	s.ok(c, "POST /dynamic_index?archive-name=a.pxar.didx", "POST /dynamic_index?archive-name=b.pxar.didx", "dynamic 1 A",
		`PUT /dynamic_index {"wid":2,"digest-list":["{A}"],"offset-list":[0]}`,
		`PUT /dynamic_index {"wid":1,"digest-list":["{A}"],"offset-list":[0]}`,
		"POST /dynamic_close?wid=2&chunk-count=1&size=100&csum={@dyn A}",
		"POST /dynamic_close?wid=1&chunk-count=1&size=100&csum={@dyn A}")
	s.finish(c, snapshot("host/h", 1000), archive("a.pxar.didx", "A"), archive("b.pxar.didx", "A"))
	if ended := s.Wait(); ended[0] != nil {
		t.Errorf("the session ended with: %v", ended[0])
	}
}

// A backup beside one that runs in another namespace has the same name and
// nothing else in common.
func TestNamespacesAreApart(t *testing.T) {
	s := newSite(t)
	if err := s.Datastore.CreateNamespace("a"); err != nil {
		t.Fatal(err)
	}
	root, below := s.connect("vm/1", 1000, ""), s.connect("vm/1", 1000, "&ns=a")
	root.Close()
	s.ok(below, "POST /blob?file-name=a.conf.blob&encoded-size={A.e} <A")
	s.finish(below, snapshot("vm/1", 1000), entry{"a.conf.blob", len(pieces["A"].blob), chunks.Sum(pieces["A"].blob)})
	s.Wait()
	if ok, err := s.Datastore.Manifest("a", snapshot("vm/1", 1000)); ok == nil || err != nil {
		t.Errorf("the backup in the namespace: %v", err)
	}
	if _, err := s.Datastore.Manifest("", snapshot("vm/1", 1000)); err == nil {
		t.Error("there is a backup in the root")
	}
}
