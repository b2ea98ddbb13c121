package remotes_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/node/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

var (
	ours   = chunks.NewKey([chunks.KeySize]byte{1})
	theirs = chunks.NewKey([chunks.KeySize]byte{2})
)

// A lab is a server, and a datastore that pulls from it.
type lab struct {
	t      *testing.T
	server *pbstest.Server
	here   *catalog.Datastore
}

func newLab(t *testing.T) *lab {
	return &lab{t, pbstest.New(t, pbstest.NewDatastore(t)), pbstest.NewDatastore(t)}
}

func (l *lab) pull(change func(*replication.Job), keys ...*chunks.Key) (replication.Report, error) {
	l.t.Helper()
	host, port, _ := net.SplitHostPort(l.server.Addr)
	n, _ := strconv.Atoi(port)
	src, err := remotes.New(remotes.Config{
		Remote:   settings.Remote{Name: "there", Host: host, Port: n, AuthID: "read@pbs", Fingerprint: l.server.Fingerprint},
		Password: "secret", Store: pbstest.Store,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	defer src.Close()
	p, err := replication.New(replication.Config{Local: l.here, Sources: []replication.Source{src}, Keys: keys, Unsigned: true, Printf: l.t.Logf})
	if err != nil {
		l.t.Fatal(err)
	}
	j := replication.Job{ID: "j", Workers: 1, Options: plan.Options{Owner: "root@pam"}}
	if change != nil {
		change(&j)
	}
	return p.Run(l.t.Context(), j)
}

func (l *lab) back(name string, image []byte, key *chunks.Key) {
	l.t.Helper()
	err := storestest.Make(l.t.Context(), l.server.Datastore, storestest.Backup{Snapshot: name, Owner: "root@pam", Key: key, Files: []storestest.File{
		{Name: "drive.img.fidx", Content: image}, {Name: "part.pxar.didx", Content: image[:5<<20]}, {Name: "guest.conf.blob", Content: []byte("conf of " + name)},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
}

// check fails the test unless a snapshot here has its image, and is encrypted with
// that key; nil: not at all.
func (l *lab) check(name string, image []byte, key *chunks.Key) {
	l.t.Helper()
	snap, err := naming.ParseSnapshot(name)
	if err != nil {
		l.t.Fatal(err)
	}
	r, err := l.here.OpenSnapshot(l.t.Context(), "", snap)
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close()
	m, want := r.Manifest(), crypt.Encrypt
	if key == nil {
		want = crypt.Open
	}
	if err := m.Check(key); err != nil || crypt.Of(m) != want || m.Signed() != (key != nil) {
		l.t.Errorf("%s: encrypted %v, signed %v, %v", name, crypt.Of(m), m.Signed(), err)
	}
	var got bytes.Buffer
	s := archive.Open(r, archive.Options{Key: key})
	if err := s.Stream(l.t.Context(), "drive.img.fidx", &got); err != nil || !bytes.Equal(got.Bytes(), image) {
		l.t.Errorf("%s: the image is not what it was: %v", name, err)
	}
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{seed})
	_, _ = rng.Read(b)
	return b
}

// What was encrypted with a key that the job has is decrypted, all else stays as it
// is (features row 91). Of the next snapshot only what is new is fetched.
func TestDecrypt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	image, other := random(1, 20<<20), random(2, 6<<20)
	l.back("vm/1/2026-01-01T00:00:00Z", image, ours)
	l.back("vm/2/2026-01-01T00:00:00Z", other, theirs)
	l.back("vm/3/2026-01-01T00:00:00Z", other, nil)
	if r, err := l.pull(nil, ours); err != nil || r.Pulled != 3 || r.Decrypted != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	l.check("vm/1/2026-01-01T00:00:00Z", image, nil)
	l.check("vm/2/2026-01-01T00:00:00Z", other, theirs)
	l.check("vm/3/2026-01-01T00:00:00Z", other, nil)
	if r, err := l.pull(nil, ours); err != nil || r.Pulled+r.Renewed != 0 || r.Swarm.Fetched != 0 {
		t.Errorf("once more: %+v %v", r, err)
	}
	changed := bytes.Clone(image)
	copy(changed[17<<20:], "new")
	l.back("vm/1/2026-01-02T00:00:00Z", changed, ours)
	if r, err := l.pull(nil, theirs, ours); err != nil || r.Pulled != 1 || r.Decrypted != 1 || r.Swarm.Fetched != 1 {
		t.Errorf("what is new: %+v %v", r, err)
	}
	l.check("vm/1/2026-01-02T00:00:00Z", changed, nil)
	// What is here as it was encrypted stays so.
	if r, err := l.pull(nil, theirs, ours); err != nil || r.Pulled+r.Renewed != 0 {
		t.Errorf("with the other key: %+v %v", r, err)
	}
	l.check("vm/2/2026-01-01T00:00:00Z", other, theirs)
}

// A snapshot whose manifest the key has not signed is not decrypted.
func TestDecryptForged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.back("vm/1/2026-01-01T00:00:00Z", random(1, 6<<20), ours)
	snap, _ := naming.ParseSnapshot("vm/1/2026-01-01T00:00:00Z")
	m, err := l.server.Datastore.Manifest("", snap)
	if err != nil {
		t.Fatal(err)
	}
	m.Signature[0]++
	next, _ := naming.ParseSnapshot("vm/2/2026-01-01T00:00:00Z")
	w, err := l.server.Datastore.Insert(t.Context(), "", next, "root@pam")
	if err != nil {
		t.Fatal(err)
	}
	m.ID = "2"
	for _, f := range m.Files {
		if strings.HasSuffix(f.Name, ".blob") {
			b, _ := l.server.Datastore.ReadBlob("", snap, f.Name)
			err = w.PutBlob(f.Name, b)
		} else {
			x, _ := l.server.Datastore.ReadIndex("", snap, f.Name)
			err = w.PutIndex(f.Name, x)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	r, err := l.pull(nil, ours)
	if err == nil || r.Pulled != 1 || len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "signature does not fit") {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := l.here.Manifest("", next); err == nil {
		t.Error("a snapshot with a forged manifest was decrypted")
	}
}
