// Package keyring keeps the keys that jobs encrypt and decrypt with: a push to a
// server that is trusted less, a pull from one.
//
// What may be known of a key (its name, fingerprint, state, who may use it) is in
// the ledger for all to see. The key itself lies there too, sealed to each node that
// may use it: no other can open it, and nothing prints it. The rules of use are
// those of PBS (features rows 93 to 96): a key that is archived encrypts nothing
// any more and still decrypts; it is removed only when it is archived and no job
// names it.
package keyring

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/api/keys"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// The states of a key.
const (
	active   = "active"
	archived = "archived"
)

// Config says whose keyring it is. Every field is required.
type Config struct {
	Client *ledger.Client
	Key    ed25519.PrivateKey // of this node

	Nodes func() []string                          // IDs of the members
	Name  func(node string) string                 // of a member
	Find  func(node string) (id string, err error) // by name or ID
	State func(node string) *settings.State        // what a member has set up
}

// A Ring is the keys as one node knows them. Its methods may be called concurrently.
type Ring struct{ cfg Config }

var _ keys.Ring = (*Ring)(nil)

// New returns the keyring of a node.
func New(cfg Config) *Ring { return &Ring{cfg} }

// self is the ID of this node.
func (r *Ring) self() string { return authority.PublicKey(r.cfg.Key).NodeID() }

// List returns what may be known of all keys, sorted by name.
func (r *Ring) List() []keys.Info {
	list := []keys.Info{}
	for name, row := range ledger.Keys.All(r.cfg.Client.Ledger.View()) {
		list = append(list, r.info(name, row))
	}
	return list
}

func (r *Ring) info(name string, row ledger.Row[ledger.KeyMeta]) keys.Info {
	b := row.Body
	i := keys.Info{
		ID: name, KDF: "none", Fingerprint: b.Fingerprint, Hint: b.Hint, Comment: b.Comment,
		Created: b.Created, Modified: row.Changed.Unix(), ArchivedAt: b.Archived, Nodes: []string{}, Jobs: r.users(name),
	}
	for _, node := range slices.Sorted(maps.Keys(b.Wrapped)) {
		i.Nodes = append(i.Nodes, r.cfg.Name(node))
	}
	return i
}

// users are the jobs that name a key, as NODE:ID.
func (r *Ring) users(name string) (all []string) {
	for _, node := range r.cfg.Nodes() {
		state := r.cfg.State(node)
		for _, j := range state.SyncJobs {
			if slices.Contains(j.Keys(), name) {
				all = append(all, r.cfg.Name(node)+":"+j.ID)
			}
		}
		for _, j := range state.ExportJobs {
			if slices.Contains(j.Keys, name) {
				all = append(all, r.cfg.Name(node)+":"+j.ID)
			}
		}
	}
	return all
}

// encrypts are the jobs that encrypt with a key.
func (r *Ring) encrypts(name string) (all []string) {
	for _, node := range r.cfg.Nodes() {
		for _, j := range r.cfg.State(node).SyncJobs {
			if j.ActiveKey == name {
				all = append(all, r.cfg.Name(node)+":"+j.ID)
			}
		}
	}
	return all
}

func (r *Ring) row(name string) (ledger.Row[ledger.KeyMeta], error) {
	row, is := ledger.Keys.Get(r.cfg.Client.Ledger.View(), name)
	if !is {
		return row, fmt.Errorf("%w '%s'", keys.ErrNone, name)
	}
	return row, nil
}

// Archived tells whether a key is archived; it fails if there is none of the name.
func (r *Ring) Archived(name string) (bool, error) {
	row, err := r.row(name)
	return row.Body.State == archived, err
}

// Add adds a key, a new one if none is given, that the nodes may use.
func (r *Ring) Add(ctx context.Context, name string, key *chunks.Key, o keys.Options) error {
	if key == nil {
		var raw [chunks.KeySize]byte
		rand.Read(raw[:]) // never fails
		key = chunks.NewKey(raw)
		clear(raw[:])
	}
	ids, err := r.find(o.Nodes)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		ids = []string{r.self()}
	}
	meta := ledger.KeyMeta{
		State: active, Wrapped: map[string][]byte{}, Hint: o.Hint, Comment: o.Comment,
		Fingerprint: key.Fingerprint().String(), Created: time.Now().Unix(),
	}
	for known, row := range ledger.Keys.All(r.cfg.Client.Ledger.View()) {
		if row.Body.Fingerprint == meta.Fingerprint {
			return fmt.Errorf("it is there already, as '%s'", known)
		}
	}
	if err := seal(meta.Wrapped, ids, key); err != nil {
		return err
	}
	return r.put(ctx, name, 0, meta)
}

func (r *Ring) find(nodes []string) (ids []string, err error) {
	for _, n := range nodes {
		id, err := r.cfg.Find(n)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func seal(wrapped map[string][]byte, nodes []string, key *chunks.Key) error {
	raw := key.Raw()
	defer clear(raw[:])
	for _, node := range nodes {
		sealed, err := Seal(node, raw[:])
		if err != nil {
			return err
		}
		wrapped[node] = sealed
	}
	return nil
}

// put writes what is known of a key, as it was not changed since the version.
func (r *Ring) put(ctx context.Context, name string, version uint64, meta ledger.KeyMeta) error {
	return r.change(ctx, ledger.Keys.Put(name, version, meta))
}

func (r *Ring) change(ctx context.Context, op ledger.Op) error {
	_, err := r.cfg.Client.Do(ctx, actor.Of(ctx), actor.Address(ctx), ledger.KindChange, ledger.Change{Ops: []ledger.Op{op}})
	return err
}

// Archive archives a key, or takes that back. One that a job encrypts with is not
// archived: that job would fail from then on.
func (r *Ring) Archive(ctx context.Context, name string, archive bool) error {
	row, err := r.row(name)
	if err != nil {
		return err
	}
	if jobs := r.encrypts(name); archive && len(jobs) > 0 {
		return &hinted{fmt.Errorf("key '%s' is what job %s encrypts with", name, jobs[0]), "give the job another key first, with --active-encryption-key"}
	}
	row.Body.State, row.Body.Archived = active, 0
	if archive {
		row.Body.State, row.Body.Archived = archived, time.Now().Unix()
	}
	return r.put(ctx, name, row.Version, row.Body)
}

// Share lets more nodes use a key. This one has to be one of those that may.
func (r *Ring) Share(ctx context.Context, name string, nodes []string) error {
	row, err := r.row(name)
	if err != nil {
		return err
	}
	ids, err := r.find(nodes)
	if err != nil {
		return err
	}
	key, err := r.open(name, row.Body)
	if err != nil {
		return err
	}
	row.Body.Wrapped = maps.Clone(row.Body.Wrapped)
	if err := seal(row.Body.Wrapped, ids, key); err != nil {
		return err
	}
	return r.put(ctx, name, row.Version, row.Body)
}

// Remove forgets a key for good, if it is archived and no job names it.
func (r *Ring) Remove(ctx context.Context, name string) error {
	row, err := r.row(name)
	if err != nil {
		return err
	}
	if row.Body.State != archived {
		return &hinted{fmt.Errorf("key '%s' is not archived", name), "archive it first: holdfast key archive " + name}
	}
	if jobs := r.users(name); len(jobs) > 0 {
		return &hinted{fmt.Errorf("job %s may decrypt with key '%s'", jobs[0], name), "take it out of the job's --associated-key first; what was encrypted with it cannot be read without"}
	}
	return r.change(ctx, ledger.Keys.Delete(name, row.Version))
}

// open opens a key that this node may use.
func (r *Ring) open(name string, meta ledger.KeyMeta) (*chunks.Key, error) {
	sealed, may := meta.Wrapped[r.self()]
	if !may {
		return nil, &hinted{fmt.Errorf("this node may not use key '%s'", name), fmt.Sprintf("on a node that may: holdfast key share %s --node %s", name, r.cfg.Name(r.self()))}
	}
	raw, err := Open(r.cfg.Key, sealed)
	if err != nil {
		return nil, fmt.Errorf("key '%s': %w", name, err)
	}
	defer clear(raw)
	if len(raw) != chunks.KeySize {
		return nil, fmt.Errorf("key '%s' has %d bytes", name, len(raw))
	}
	key := chunks.NewKey([chunks.KeySize]byte(raw))
	if got := key.Fingerprint().String(); got != meta.Fingerprint {
		return nil, fmt.Errorf("key '%s' has the fingerprint %s, and not %s", name, got, meta.Fingerprint)
	}
	return key, nil
}

// Encrypts returns the key that a job encrypts with.
func (r *Ring) Encrypts(name string) (*chunks.Key, error) {
	row, err := r.row(name)
	if err != nil {
		return nil, err
	}
	if row.Body.State != active {
		return nil, &hinted{fmt.Errorf("key '%s' is archived, and encrypts nothing any more", name), "give the job another key, with --active-encryption-key"}
	}
	return r.open(name, row.Body)
}

// Decrypts returns keys that a job may decrypt with.
func (r *Ring) Decrypts(names []string) (all []*chunks.Key, err error) {
	for _, name := range names {
		row, err := r.row(name)
		if err != nil {
			return nil, err
		}
		k, err := r.open(name, row.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
