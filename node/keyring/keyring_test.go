package keyring

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/api/keys"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

func nodeKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func nodeID(n byte) string { return authority.PublicKey(nodeKey(n)).NodeID() }

// A world is a ledger that two nodes have, home (10) and dc (11).
type world struct {
	t       *testing.T
	l       *ledger.Ledger
	n       uint64
	jobs    map[string][]settings.SyncJob
	exports map[string][]settings.ExportJob
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, l: ledger.New(nil), jobs: map[string][]settings.SyncJob{}, exports: map[string][]settings.ExportJob{}}
	cluster := [16]byte{7}
	chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: cluster, Operators: []authority.Key{authority.PublicKey(nodeKey(1))}, Threshold: 1}, nodeKey(1))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(2) {
		n := authority.Node{Key: authority.PublicKey(nodeKey(10 + i)), Name: fmt.Sprint("n", i), Site: "s", Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, n), nodeKey(1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range chain.Links(0) {
		if _, err := w.client(10).Do(t.Context(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) client(n byte) *ledger.Client {
	return &ledger.Client{Key: nodeKey(n), Ledger: w.l, Submit: func(_ context.Context, b []byte) ([]byte, error) {
		w.n++
		return w.l.Apply(w.n, time.Now(), b)
	}}
}

func (w *world) ring(n byte) *Ring {
	names := map[string]string{nodeID(10): "home", nodeID(11): "dc"}
	return New(Config{
		Client: w.client(n), Key: nodeKey(n), Name: func(id string) string { return names[id] },
		Nodes: func() []string { return []string{nodeID(10), nodeID(11)} },
		Find: func(node string) (string, error) {
			for id, name := range names {
				if name == node {
					return id, nil
				}
			}
			return "", errors.New("no such node")
		},
		State: func(node string) *settings.State {
			return &settings.State{SyncJobs: w.jobs[node], ExportJobs: w.exports[node]}
		},
	})
}

// What is sealed for a node only that node opens.
func TestSeal(t *testing.T) {
	secret := []byte("hush")
	sealed, err := Seal(nodeID(10), secret)
	if err != nil || bytes.Contains(sealed, secret) {
		t.Fatal(err)
	}
	if got, err := Open(nodeKey(10), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("opened: %q %v", got, err)
	}
	if _, err := Open(nodeKey(11), sealed); err == nil {
		t.Error("another node opens it")
	}
	sealed[len(sealed)-1]++
	if _, err := Open(nodeKey(10), sealed); err == nil {
		t.Error("what was changed opens")
	}
	if _, err := Seal("nobody", secret); err == nil {
		t.Error("it is sealed for nobody")
	}
}

// A key is used by the nodes that it is sealed to, and what is known of it shows
// nothing of it.
func TestShare(t *testing.T) {
	w := newWorld(t)
	home, dc, ctx := w.ring(10), w.ring(11), t.Context()
	raw := [chunks.KeySize]byte(bytes.Repeat([]byte{0xA7}, chunks.KeySize))
	if err := home.Add(ctx, "k0", chunks.NewKey(raw), keys.Options{Comment: "for the office"}); err != nil {
		t.Fatal(err)
	}
	if err := home.Add(ctx, "again", chunks.NewKey(raw), keys.Options{}); err == nil || !strings.Contains(err.Error(), "as 'k0'") {
		t.Errorf("the same key again: %v", err)
	}
	if err := home.Add(ctx, "k0", nil, keys.Options{}); err == nil {
		t.Error("two keys have one name")
	}
	if k, err := home.Encrypts("k0"); err != nil || k.Raw() != raw {
		t.Errorf("where it was added: %v", err)
	}
	if _, err := dc.Encrypts("k0"); err == nil || !strings.Contains(err.(*hinted).Hint(), "key share k0 --node dc") {
		t.Errorf("where it may not be used: %v", err)
	}
	if err := dc.Share(ctx, "k0", []string{"dc"}); err == nil {
		t.Error("a node lets itself use a key")
	}
	if err := home.Share(ctx, "k0", []string{"dc"}); err != nil {
		t.Fatal(err)
	}
	if all, err := dc.Decrypts([]string{"k0"}); err != nil || len(all) != 1 || all[0].Raw() != raw {
		t.Errorf("after it was shared: %v", err)
	}
	if i := home.List()[0]; !slices.Equal(i.Nodes, []string{"home", "dc"}) && !slices.Equal(i.Nodes, []string{"dc", "home"}) || i.Comment != "for the office" || i.Fingerprint != chunks.NewKey(raw).Fingerprint().String() {
		t.Errorf("listed: %+v", i)
	}
	row, _ := ledger.Keys.Get(w.l.View(), "k0")
	if bytes.Contains(canon.Encode(row.Body), raw[:8]) {
		t.Error("the ledger has the key as it is")
	}
	// Somebody puts another key in its place: it has another fingerprint.
	if err := home.Add(ctx, "other", nil, keys.Options{}); err != nil {
		t.Fatal(err)
	}
	other, _ := ledger.Keys.Get(w.l.View(), "other")
	row.Body.Wrapped = other.Body.Wrapped
	if err := home.put(ctx, "k0", row.Version, row.Body); err != nil {
		t.Fatal(err)
	}
	if _, err := home.Encrypts("k0"); err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("with another key in its place: %v", err)
	}
}

// A key that is archived still decrypts, and is removed when no job names it
// (features rows 95 and 96).
func TestStates(t *testing.T) {
	for _, tt := range []struct {
		name       string
		archived   bool
		job        settings.SyncJob // of the other node
		export     []string         // keys of an export there
		encrypts   bool
		archives   string // why it is not archived, if it is not yet
		removes    string // why it is not removed
		unarchives bool
	}{
		{"active, no job", false, settings.SyncJob{}, nil, true, "", "is not archived", false},
		{"active, a job encrypts with it", false, settings.SyncJob{ID: "j", ActiveKey: "k"}, nil, true, "job dc:j encrypts with", "is not archived", false},
		{"active, associated", false, settings.SyncJob{ID: "j", AssociatedKeys: []string{"k"}}, nil, true, "", "is not archived", false},
		{"archived, associated", true, settings.SyncJob{ID: "j", AssociatedKeys: []string{"x", "k"}}, nil, false, "", "job dc:j may decrypt", false},
		{"archived, an export decrypts with it", true, settings.SyncJob{}, []string{"x", "k"}, false, "", "job dc:e may decrypt", false},
		{"archived, no job", true, settings.SyncJob{ID: "j", AssociatedKeys: []string{"x"}}, nil, false, "", "", false},
		{"archived and taken back", true, settings.SyncJob{}, nil, true, "", "is not archived", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			r, ctx := w.ring(10), t.Context()
			if err := r.Add(ctx, "k", nil, keys.Options{}); err != nil {
				t.Fatal(err)
			}
			if tt.archived {
				if err := r.Archive(ctx, "k", true); err != nil {
					t.Fatal(err)
				}
			}
			w.jobs[nodeID(11)] = []settings.SyncJob{tt.job}
			w.exports[nodeID(11)] = []settings.ExportJob{{ID: "e", Keys: tt.export}}
			if tt.unarchives {
				if err := r.Archive(ctx, "k", false); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Encrypts("k"); (err == nil) != tt.encrypts {
				t.Errorf("it encrypts: %v", err)
			}
			if _, err := r.Decrypts([]string{"k"}); err != nil {
				t.Errorf("it decrypts: %v", err)
			}
			if err := r.Remove(ctx, "k"); !says(err, tt.removes) {
				t.Errorf("it is removed: %v", err)
			}
			if tt.removes == "" {
				if len(r.List()) != 0 {
					t.Error("it is there still")
				}
				return
			}
			if err := r.Archive(ctx, "k", true); !says(err, tt.archives) {
				t.Errorf("it is archived: %v", err)
			}
		})
	}
}

// says tells whether an error says something; "" is that there is none.
func says(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}
