package tier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/migrate"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// forGood is how long nobody takes a bucket that a store has left, but by force.
const forGood = 100 * 365 * 24 * time.Hour

func part(b *bucket.Bucket, id format.ID) *bucket.Bucket { return b.Sub(layout.Root + id.String()) }

// Free looks whether another bucket is one to copy the store to: see [migrate.Free].
func (t *Tier) Free(ctx context.Context, to *bucket.Bucket) (*migrate.Place, error) {
	if err := identity.Apart(to); err != nil {
		return nil, err
	}
	secret, err := identity.Secret(t.cfg.FS, t.cfg.at("secret"))
	if err != nil {
		return nil, err
	}
	return migrate.Free(ctx, t.cfg.Bucket, to, t.state.Store, secret)
}

// Migration says what of the store another bucket lacks.
func (t *Tier) Migration(ctx context.Context, to *bucket.Bucket) (*migrate.State, error) {
	place, err := t.Free(ctx, to)
	if err != nil {
		return nil, err
	}
	s, err := migrate.Look(ctx, part(t.cfg.Bucket, t.state.Store), part(to, t.state.Store))
	if err == nil {
		s.Place = place
	}
	return s, err
}

// CopyTo copies what another bucket lacks, while the store is used.
func (t *Tier) CopyTo(ctx context.Context, to *bucket.Bucket, done func(migrate.Sum)) (migrate.Sum, error) {
	key, _, err := t.sealKey(ctx)
	if err != nil {
		return migrate.Sum{}, err
	}
	if _, err := t.Free(ctx, to); err != nil { // before the probe writes anything
		return migrate.Sum{}, err
	}
	can, err := to.Probe(ctx)
	if err == nil {
		err = can.Usable()
	}
	if err != nil {
		return migrate.Sum{}, fmt.Errorf("copy to %s: %w", to, err)
	}
	return t.copyTo(ctx, to.With(can), key, done)
}

func (t *Tier) copyTo(ctx context.Context, to *bucket.Bucket, key *seal.Key, done func(migrate.Sum)) (migrate.Sum, error) {
	s, err := t.Migration(ctx, to)
	if err != nil {
		return migrate.Sum{}, err
	}
	return s.Copy(ctx, layout.NewOpener(key), done)
}

// sealKey opens the store's key.
func (t *Tier) sealKey(ctx context.Context) (*seal.Key, layout.Format, error) {
	f, err := identity.ReadFormat(ctx, part(t.cfg.Bucket, t.state.Store), t.state.Store)
	if err != nil {
		return nil, f, err
	}
	if t.cfg.Key == nil {
		return nil, f, cloud.ErrNoKey
	}
	wrapped := t.state.Wrapped
	if wrapped == nil {
		wrapped = f.Wrapped
	}
	key, err := seal.Unwrap(wrapped, t.cfg.Key)
	return key, f, err
}

// MoveTo copies what another bucket lacks, checks that it has all, and makes it the
// home of the store: from then on nobody writes to the old one, which keeps what it
// has. The tier has to be opened anew with the other bucket. It may be cut off
// anywhere, and called again: until the tier is opened with the other bucket, the old
// one is its home, and is taken back.
func (t *Tier) MoveTo(ctx context.Context, to *bucket.Bucket, done func(migrate.Sum)) (copied migrate.Sum, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	key, f, err := t.sealKey(ctx)
	if err != nil {
		return copied, err
	}
	if _, err := t.Free(ctx, to); err != nil { // before the probe writes anything
		return copied, err
	}
	can, err := probe(ctx, Config{Bucket: to, SingleWriter: t.cfg.SingleWriter})
	if err != nil {
		return copied, err
	}
	to = to.With(can)
	if copied, err = t.copyTo(ctx, to, key, done); err != nil { // most of it, before the old one is left
		return copied, err
	}
	t.away(true)
	defer func() {
		if err != nil {
			t.away(false)
			t.stay(ctx)
		}
	}()
	owner, err := t.leave(ctx, to)
	if err != nil {
		return copied, err
	}
	rest, err := t.copyTo(ctx, to, key, done)
	copied.Objects, copied.Bytes = copied.Objects+rest.Objects, copied.Bytes+rest.Bytes
	if err != nil {
		return copied, err
	}
	place, err := t.Free(ctx, to)
	if err != nil {
		return copied, err
	}
	if err := t.checkCopy(ctx, to, place, key, f); err != nil {
		return copied, err
	}
	next := layout.Owner{Store: owner.Store, Node: t.cfg.Node, Epoch: owner.Epoch, Until: time.Now().UTC().Add(cmp.Or(t.cfg.Lease, 6*time.Hour)), Secret: owner.Secret}
	if err := place.Own(ctx, to, next); err != nil {
		return copied, err
	}
	t.mu.Lock()
	t.state.Moved = &moved{to.String(), can}
	t.mu.Unlock()
	return copied, t.saveState()
}

// leave says in the bucket that the store moves: from then on no root is written
// there, by whomever. That we do so is noted first, so that we take it back if we
// are cut off.
func (t *Tier) leave(ctx context.Context, to *bucket.Bucket) (layout.Owner, error) {
	id := t.state.Store
	secret, err := identity.Secret(t.cfg.FS, t.cfg.at("secret"))
	if err != nil {
		return layout.Owner{}, err
	}
	owner, etag, err := identity.ReadOwner(ctx, part(t.cfg.Bucket, id), id)
	if err != nil {
		return owner, err
	}
	left := strings.HasPrefix(owner.Node, movedWord)
	if owner.Secret != secret || owner.Node != t.cfg.Node && !left {
		return owner, fmt.Errorf("move %s: %w: node %s has it", t.cfg.Bucket, cloud.ErrOwned, owner.Node)
	}
	t.mu.Lock()
	t.state.Leaving = true
	t.mu.Unlock()
	if err := t.saveState(); err != nil {
		return owner, err
	}
	leaves := layout.Owner{Store: id, Node: movedWord + to.String(), Epoch: owner.Epoch, Until: time.Now().UTC().Add(forGood), Secret: secret}
	if !left {
		leaves.Epoch++
	}
	return leaves, t.putOwner(ctx, t.cfg.Bucket.With(t.state.Can), leaves, etag)
}

// movedWord begins what stands instead of a node's name in a bucket that was left.
const movedWord = "moved to "

// away says whether the store is between two buckets: nothing goes to either.
func (t *Tier) away(is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.between, t.sure = is, false
}

// stay takes back what a move that failed has left, if it can; else [Tier.Run] does,
// or the next start.
func (t *Tier) stay(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := t.own(ctx); err != nil {
		t.cfg.Log.Warn("the move failed, and its old bucket cannot be taken back yet", "err", err)
	}
}

// takeBack makes the bucket ours again if we left it for one that the store never
// arrived in. Nobody else had it meanwhile: our secret is in it.
func (t *Tier) takeBack(ctx context.Context) error {
	id := t.state.Store
	secret, err := identity.Secret(t.cfg.FS, t.cfg.at("secret"))
	if err != nil {
		return err
	}
	o, etag, err := identity.ReadOwner(ctx, part(t.cfg.Bucket, id), id)
	if err != nil || o.Secret != secret || !strings.HasPrefix(o.Node, movedWord) {
		return err // what else it says is for whoever wants to own it
	}
	o.Node, o.Until = t.cfg.Node, time.Now().UTC().Add(cmp.Or(t.cfg.Lease, 6*time.Hour))
	return t.putOwner(ctx, t.cfg.Bucket.With(t.state.Can), o, etag)
}

// errBetween says why nothing goes to the bucket while the store moves.
var errBetween error = &identity.Problem{
	Text: "the store moves to another bucket now",
	Cure: "wait until the task ends; backups are taken meanwhile. If none runs: holdfast datastore migrate NAME --home once more",
}

// left explains a bucket that its owner has left, as it says itself.
func (t *Tier) left(ctx context.Context, err error) error {
	if !errors.Is(err, cloud.ErrOwned) {
		return err
	}
	o, rerr := t.store.Owner(ctx)
	if rerr != nil || !strings.HasPrefix(o.Node, movedWord) {
		return err
	}
	return &gone{err, o.Node}
}

// A gone is why a bucket is nobody's any more.
type gone struct {
	error
	where string
}

func (g *gone) Unwrap() error { return g.error }

func (g *gone) Error() string { return "the store has left this bucket: it " + g.where }

// Hint is printed on its own line below the error.
func (g *gone) Hint() string {
	return "use it where it is: holdfast datastore create NAME --reuse-datastore with that bucket; if it never got there: holdfast datastore take-over NAME --force"
}

// A moved is where a store moves to, and what is known of it.
type moved struct {
	Place string              `json:"place"`
	Can   bucket.Capabilities `json:"can"`
}

// arrive makes ready for the bucket that a move led to. Packs that the old one has
// confirmed, and no root names, are built anew: their chunks are on the disk still,
// and the new bucket may have been copied before they came.
func (t *Tier) arrive() error {
	if t.state.Moved == nil || t.state.Moved.Place != t.cfg.Bucket.String() {
		return nil
	}
	files, err := t.cfg.FS.ReadDir(t.cfg.at("upload"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), queue.Done) {
			if err := t.cfg.FS.Remove(path.Join(t.cfg.at("upload"), f.Name())); err != nil {
				return err
			}
		}
	}
	t.state.Can, t.state.Own, t.state.Leaving, t.state.Moved = t.state.Moved.Can, true, false, nil
	return t.saveState()
}

func (t *Tier) putOwner(ctx context.Context, b *bucket.Bucket, o layout.Owner, etag string) error {
	body, err := layout.EncodeOwner(o)
	if err != nil {
		return err
	}
	opt := bucket.PutOption{IfMatch: etag, New: etag == ""}
	if !b.Can().Fenced() {
		opt = bucket.PutOption{}
	}
	_, err = part(b, o.Store).PutBytes(ctx, layout.OwnerKey, body, opt)
	return err
}

// checkCopy reads the newest root of the copy and what it names, and finds all packs.
func (t *Tier) checkCopy(ctx context.Context, to *bucket.Bucket, place *migrate.Place, key *seal.Key, f layout.Format) error {
	dir := t.cfg.at("moved")
	if err := disk.MkdirAll(t.cfg.FS, dir, 0o750); err != nil {
		return err
	}
	objects := meta.Objects{Bucket: part(to, f.Store), FS: t.cfg.FS, Dir: dir, Format: f, Key: key}
	head, err := objects.Newest(ctx)
	if err != nil {
		return err
	}
	if here := t.store.Stats().Root; head.Seq.String() < here {
		return fmt.Errorf("the newest root in %s is %s, and ours is %s", to, head.Seq, here)
	}
	if err := place.Same(ctx, head.Seq); err != nil {
		return err
	}
	packs, err := objects.Indexes(ctx, head)
	if err != nil {
		return err
	}
	want, buried := map[string]int64{}, head.Buried()
	for _, p := range packs {
		if !buried[p.ID] {
			want[layout.PackKey(p.ID)] = p.Size
		}
	}
	return migrate.Check(ctx, part(to, f.Store), append(append([]layout.Object{}, head.Index...), head.Bundles...), want)
}
