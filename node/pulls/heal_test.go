package pulls_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A ledger knows to which nodes clients sent snapshots, as the feeds do.
type ledger struct {
	mu   sync.Mutex
	rows map[[32]byte][]pulls.Origin
	from map[string]string // node that a snapshot came from
}

// signer gives a node a key and a ledger. Its ID is then that of the key.
func (m *mesh) signer(name string, l *ledger) func(*node, *pulls.Config) {
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	return func(n *node, c *pulls.Config) {
		c.Key = key
		c.Origins = func(sum [32]byte) []pulls.Origin {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.rows[sum])
		}
		c.Pulled = func(store string, ns naming.Namespace, s naming.Snapshot, node string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.from[name+" "+s.String()] = node
		}
	}
}

// keyed gives members the IDs of their keys.
func (m *mesh) keyed() {
	for i, x := range m.members {
		seed := sha256.Sum256([]byte(x.Name))
		m.members[i].ID = record.Key(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)).NodeID()
	}
}

// encrypted makes a backup whose chunks nobody here can look into, which the
// ledger knows as one that a client sent here.
func (n *node) encrypted(l *ledger, id, snapshot string, content []byte) {
	n.t.Helper()
	key := chunks.NewKey([chunks.KeySize]byte{1: 7})
	_, group, at := parse(n.t, snapshot)
	n.Back(n.t, "main", storestest.Backup{
		Snapshot: group + "/" + naming.FormatTime(at), Owner: "root@pam", Key: key,
		Files: []storestest.File{{Name: "disk.img.fidx", Content: content}},
	})
	s, err := naming.ParseSnapshot(group + "/" + naming.FormatTime(at))
	if err != nil {
		n.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := n.sum(s)
	l.rows[sum] = append(l.rows[sum], pulls.Origin{Node: id, Store: "main", Snap: wire.Snapshot{Snapshot: s}})
}

func (n *node) sum(s naming.Snapshot) [32]byte {
	n.t.Helper()
	m, err := n.main().Manifest("", s)
	if err != nil {
		n.t.Fatal(err)
	}
	text, err := m.Canonical()
	if err != nil {
		n.t.Fatal(err)
	}
	return sha256.Sum256(text)
}

func (n *node) main() *catalog.Datastore {
	n.t.Helper()
	d, err := n.Get("main")
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// chunksOf lists the chunks of all snapshots.
func (n *node) chunksOf() (all []chunks.Digest) {
	n.t.Helper()
	list, err := n.main().List(n.t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, i := range list {
		x, err := n.main().ReadIndex(i.Namespace, i.Snapshot(), "disk.img.fidx")
		if err != nil {
			n.t.Fatal(err)
		}
		for _, d := range x.All() {
			all = append(all, d)
		}
	}
	return all
}

// damage flips a bit in chunks, as a disk does, and verifies what is there.
func (n *node) damage(list ...chunks.Digest) {
	n.t.Helper()
	mem := n.FS.(*disktest.Mem)
	for _, d := range list {
		b, err := n.main().Chunks().Get(n.t.Context(), d, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		i := slices.IndexFunc(mem.Names(), func(name string) bool {
			at := -1
			if strings.Contains(name, "/packs/") {
				at = bytes.Index(mem.Bytes(name), b)
			}
			if at >= 0 {
				mem.FlipBit(name, int64(at+len(b)/2))
			}
			return at >= 0
		})
		if i < 0 {
			n.t.Fatalf("chunk %s is in no pack", d.Short())
		}
	}
	if r, err := verify.Run(n.t.Context(), n.main(), verify.Options{Depth: -1}); err != nil || r.Failed == 0 {
		n.t.Fatalf("%+v, %v", r, err)
	}
}

// heal heals the datastore and returns the log and how it ended.
func (n *node) heal(full bool) (log, state string) {
	n.t.Helper()
	u, err := n.StartHeal("main", "root@pam", full)
	if err != nil {
		n.t.Fatal(err)
	}
	i, err := n.Tasks.Wait(n.t.Context(), u)
	if err != nil {
		n.t.Fatal(err)
	}
	var out strings.Builder
	if err := n.Tasks.WriteLog(&out, u); err != nil {
		n.t.Fatal(err)
	}
	return out.String(), i.Status()
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func newLedger() *ledger {
	return &ledger{rows: map[[32]byte][]pulls.Origin{}, from: map[string]string{}}
}

// What broke is fetched from whoever has it, encrypted or not, and what nobody
// has is named.
func TestHeal(t *testing.T) {
	t.Parallel()
	m, l := newMesh(), newLedger()
	m.keyed()
	home, dc := m.node(t, "home", m.signer("home", l)), m.node(t, "dc", m.signer("dc", l))
	home.back(9<<20, "vm/1/1")
	home.encrypted(l, m.members[0].ID, "vm/2/1", bytesOf(9<<20))
	dc.set(settings.SyncJob{ID: "job", Store: "main", NS: "home", Remote: "home", RemoteStore: "main"})
	if log, state := dc.do("job"); state != "OK" || dc.Last("job").Report.Unproven != 0 {
		t.Fatalf("%s\n%s", state, log)
	}
	if from := l.from["dc vm/1/2023-11-14T23:13:20Z"]; from != m.members[0].ID {
		t.Errorf("a snapshot came from %q", from)
	}
	all := home.chunksOf()
	for name, n := range map[string]*node{"the source": home, "the copy": dc} {
		n.damage(all[0], all[3]) // of either snapshot
		log, state := n.heal(false)
		h := n.Healing("main")
		if state != "OK" || h == nil || h.Lost != 2 || h.Fetched != 2 || len(h.AtRisk) != 0 || !strings.Contains(log, "healed from") {
			t.Errorf("%s: %s, %+v\n%s", name, state, h, log)
		}
		if r, err := verify.Run(t.Context(), n.main(), verify.Options{Depth: -1}); err != nil || r.Failed != 0 {
			t.Errorf("%s is not whole: %+v, %v", name, r, err)
		}
	}
	home.damage(all[1])
	dc.damage(all[1])
	log, state := dc.heal(false)
	if h := dc.Healing("main"); !strings.Contains(state, "1 snapshots lack chunks") || len(h.AtRisk) != 1 || !strings.HasPrefix(h.AtRisk[0], "home:vm/") {
		t.Errorf("%s, %+v\n%s", state, h, log)
	}
}

// Somebody who has other bytes under the name of an encrypted chunk is not
// believed, be it in a pull or when something is healed, and is named; and a copy
// from before sums were signed is no worse a source than another.
func TestLiar(t *testing.T) {
	t.Parallel()
	m, l := newMesh(), newLedger()
	m.members = append(m.members, pulls.Member{Name: "late", Role: "full"})
	m.keyed()
	home, dc := m.node(t, "home", m.signer("home", l)), m.node(t, "dc", m.signer("dc", l))
	vault := m.node(t, "vault") // it checks nothing, and hands on no sums
	content := bytesOf(5 << 20)
	home.encrypted(l, m.members[0].ID, "vm/1/1", content)
	vault.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main"})
	if log, state := vault.do("job"); state != "OK" {
		t.Fatalf("%s\n%s", state, log)
	}
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "vault", RemoteStore: "main"})
	if log, state := dc.do("job"); state != "OK" || dc.holds() != "vm/1/1" || dc.Last("job").Report.Unproven != 0 {
		t.Errorf("from who has no sums: %s, %+v\n%s", state, dc.Last("job"), log)
	}
	m.members[3].Role, m.members[4].Role = "full", "full"
	lie := m.node(t, "box")
	lie.encrypted(newLedger(), "", "vm/1/1", content) // the same names, and other bytes
	third := m.node(t, "vote", m.signer("vote", l))
	third.set(settings.SyncJob{ID: "job", Store: "main", Remote: "vault", RemoteStore: "main", Sources: []string{"box:main"}})
	log, state := third.do("job")
	by := third.Last("job").Report.Swarm.BySource
	if state != "OK" || third.holds() != "vm/1/1" || by[1].Chunks > 0 || by[1].Doubts > 0 && !strings.Contains(log, "box:main sent") {
		t.Errorf("%s, %+v\n%s", state, by, log)
	}
	dc.damage(dc.chunksOf()[0])
	home.damage(home.chunksOf()[0])
	vault.damage(vault.chunksOf()[0])
	third.damage(third.chunksOf()[0])
	log, state = dc.heal(false)
	if h := dc.Healing("main"); h.Fetched != 0 || len(h.AtRisk) != 1 || h.From["box:main"] != 0 {
		t.Errorf("from the liar alone: %s, %+v\n%s", state, h, log)
	}
	l.mu.Lock()
	clear(l.rows) // its origin was removed
	l.mu.Unlock()
	late := m.node(t, "late", m.signer("late", l))
	late.set(settings.SyncJob{ID: "job", Store: "main", Remote: "box", RemoteStore: "main"})
	if log, state := late.do("job"); state != "OK" || late.Last("job").Report.Unproven != 2 {
		t.Errorf("nobody is there who could have signed: %s, %+v\n%s", state, late.Last("job"), log)
	}
}
