package pushes_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/node/pushes"
	"github.com/holdfast-mesh/holdfast/node/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

const pusher = "push@pbs"

var (
	active = chunks.NewKey([chunks.KeySize]byte{1})
	theirs = chunks.NewKey([chunks.KeySize]byte{2}) // of who made the backup
)

// A lab is a datastore that pushes, and a server.
type lab struct {
	t      *testing.T
	here   *catalog.Datastore
	server *pbstest.Server
	warned []string

	may       func(naming.Namespace, naming.Group, string) bool // default: everything
	mayRemove func(naming.Namespace) bool                       // likewise
	out       *rate.Bucket                                      // likewise

	left  atomic.Int64 // requests until the server dies; negative: it lives
	kills atomic.Value // string: what they end with
}

// breakAfter has the server lose all sessions after so many requests of a kind.
func (l *lab) breakAfter(n int64, kind string) {
	l.kills.Store(kind)
	l.left.Store(n)
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, here: pbstest.NewDatastore(t), server: pbstest.New(t, pbstest.NewDatastore(t))}
	l.breakAfter(-1, "")
	l.server.Before = func(r *http.Request) error {
		if kind := l.kills.Load().(string); kind != "" && strings.HasSuffix(r.URL.Path, kind) && l.left.Add(-1) == 0 {
			l.server.Break()
		}
		return nil
	}
	return l
}

// push runs a job with a key, nil for none.
func (l *lab) push(key *chunks.Key, change func(*settings.SyncJob)) (pushes.Report, error) {
	l.t.Helper()
	host, port, _ := net.SplitHostPort(l.server.Addr)
	n, _ := strconv.Atoi(port)
	r := settings.Remote{Name: "there", Host: host, Port: n, AuthID: pusher, Fingerprint: l.server.Fingerprint}
	c, err := remotes.Client(r, "secret", pbstest.Store, remotes.Pace{Out: l.out})
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	j := settings.SyncJob{ID: "j", Store: "main", Remote: "there", RemoteStore: pbstest.Store, SyncDirection: "push"}
	if change != nil {
		change(&j)
	}
	l.warned = nil
	return pushes.Run(l.t.Context(), pushes.Config{
		Job: j, Local: l.here, Remote: c, User: pusher, Key: key, May: l.may, MayRemove: l.mayRemove, Printf: l.t.Logf,
		Warnf: func(format string, args ...any) { l.warned = append(l.warned, fmt.Sprintf(format, args...)) },
	})
}

func snap(text string) naming.Snapshot {
	s, err := naming.ParseSnapshot(text)
	if err != nil {
		panic(err)
	}
	return s
}

// back makes a backup of an image and a small file here.
func (l *lab) back(name string, image []byte, key *chunks.Key) {
	l.t.Helper()
	err := storestest.Make(l.t.Context(), l.here, storestest.Backup{Snapshot: name, Owner: "root@pam", Key: key, Files: []storestest.File{
		{Name: "drive.img.fidx", Content: image}, {Name: "part.pxar.didx", Content: image[:5<<20]}, {Name: "guest.conf.blob", Content: []byte("conf of " + name)},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
}

// partly makes a backup of which only one file is encrypted.
func (l *lab) partly(name string) {
	l.t.Helper()
	ctx, s := l.t.Context(), snap(name)
	w, err := l.here.Insert(ctx, "", s, "root@pam")
	if err != nil {
		l.t.Fatal(err)
	}
	m := manifest.New(s)
	for name, key := range map[string]*chunks.Key{"open.conf.blob": nil, "closed.conf.blob": theirs} {
		b, err := chunks.Encode(nil, []byte("x"), chunks.EncodeOptions{Key: key})
		if err != nil {
			l.t.Fatal(err)
		}
		mode := manifest.None
		if key != nil {
			mode = manifest.Encrypt
		}
		if err := m.Add(crypt.File(name, b, mode)); err != nil {
			l.t.Fatal(err)
		}
		if err := w.PutBlob(name, b); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := w.Finish(ctx, m); err != nil {
		l.t.Fatal(err)
	}
}

// check fails the test unless a snapshot there is encrypted with a key, all of it,
// and has what it had here.
func (l *lab) check(name string, key *chunks.Key, image []byte) {
	l.t.Helper()
	r, err := l.server.Datastore.OpenSnapshot(l.t.Context(), "", snap(name))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close()
	m := r.Manifest()
	if err := m.Check(key); err != nil || crypt.Of(m) != crypt.Encrypt {
		l.t.Errorf("%s: encrypted %v, %v", name, crypt.Of(m), err)
	}
	for _, f := range m.Files {
		if !roots.IsIndex(f.Name) {
			continue
		}
		x, err := r.Index(f.Name)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, d := range x.All() {
			b, err := r.Chunks().Get(l.t.Context(), d, nil)
			if err != nil {
				l.t.Fatal(err)
			}
			if kind, err := b.Kind(); err != nil || !kind.IsEncrypted() || b.Verify(d, key) != nil {
				l.t.Errorf("%s: a chunk of %s is not encrypted", name, f.Name)
			}
		}
	}
	var got bytes.Buffer
	s := archive.Open(r, archive.Options{Key: key})
	if err := s.Stream(context.WithoutCancel(l.t.Context()), "drive.img.fidx", &got); err != nil || !bytes.Equal(got.Bytes(), image) {
		l.t.Errorf("%s: the image is not what it was: %v", name, err)
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = rng.Read(b)
	return b
}

// What is not encrypted is encrypted with the job's key; what is stays as it is;
// what is in part is left out, and that is said (features rows 87 to 89).
func TestEncrypt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	image := random(1, 9<<20)
	l.back("vm/1/2026-01-01T00:00:00Z", image, nil)
	l.back("vm/2/2026-01-01T00:00:00Z", image, theirs)
	l.partly("vm/3/2026-01-01T00:00:00Z")
	r, err := l.push(active, nil)
	if err != nil || r.Snapshots != 2 || r.Encrypted != 1 || r.Left != 1 {
		t.Errorf("%+v %v", r, err)
	}
	l.check("vm/1/2026-01-01T00:00:00Z", active, image)
	l.check("vm/2/2026-01-01T00:00:00Z", theirs, image)
	if len(l.warned) != 1 || !strings.Contains(l.warned[0], "vm/3/2026-01-01T00:00:00Z is left out") {
		t.Errorf("warned: %q", l.warned)
	}
	if _, err := l.server.Datastore.Manifest("", snap("vm/3/2026-01-01T00:00:00Z")); err == nil {
		t.Error("a snapshot of which a part is encrypted was pushed")
	}
}

// Of a changed image only what has changed is encrypted and sent: what the server
// has is known from the last snapshot, which the key has signed.
func TestEncryptWhatIsNew(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	image := random(1, 20<<20)
	l.back("vm/1/2026-01-01T00:00:00Z", image, nil)
	if r, err := l.push(active, nil); err != nil || r.Chunks != 6 {
		t.Fatalf("%+v %v", r, err)
	}
	changed := bytes.Clone(image)
	copy(changed[17<<20:], "new")
	l.back("vm/1/2026-01-02T00:00:00Z", changed, nil)
	if r, err := l.push(active, nil); err != nil || r.Chunks != 1 || r.Snapshots != 1 {
		t.Errorf("once more: %+v %v", r, err)
	}
	l.check("vm/1/2026-01-02T00:00:00Z", active, changed)
	if r, err := l.push(active, nil); err != nil || r.Snapshots != 0 {
		t.Errorf("nothing new: %+v %v", r, err)
	}
	// With another key nothing there is of use.
	l.back("vm/1/2026-01-03T00:00:00Z", changed, nil)
	if r, err := l.push(theirs, nil); err != nil || r.Chunks != 6 {
		t.Errorf("another key: %+v %v", r, err)
	}
	l.check("vm/1/2026-01-03T00:00:00Z", theirs, changed)
}

// Where the last snapshot there is not encrypted, nothing of it is referred to.
func TestEncryptAfterPlain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	image := random(1, 9<<20)
	l.back("vm/1/2026-01-01T00:00:00Z", image, nil)
	if r, err := l.push(nil, nil); err != nil || r.Snapshots != 1 || r.Encrypted != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	l.back("vm/1/2026-01-02T00:00:00Z", image, nil)
	if r, err := l.push(active, nil); err != nil || r.Encrypted != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	l.check("vm/1/2026-01-02T00:00:00Z", active, image)
}

// A job about encrypted snapshots only never uses its key (features row 90), and
// nothing is pushed to a server from before there were namespaces (row 63).
func TestKeyIsNotUsed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.back("vm/1/2026-01-01T00:00:00Z", random(1, 6<<20), nil)
	l.back("vm/2/2026-01-01T00:00:00Z", random(2, 6<<20), theirs)
	yes := true
	if r, err := l.push(active, func(j *settings.SyncJob) { j.EncryptedOnly = &yes }); err != nil || r.Snapshots != 1 || r.Encrypted != 0 {
		t.Errorf("%+v %v", r, err)
	}
	l.check("vm/2/2026-01-01T00:00:00Z", theirs, random(2, 6<<20))
	for version, ok := range map[string]bool{"2.1": false, "1.9": false, "": true, "2.2": true, "nonsense": false} {
		l.server.Version = version
		if _, err := l.push(active, nil); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "nothing is pushed to one before 2.2") {
			t.Errorf("version %q: %v", version, err)
		}
	}
}
