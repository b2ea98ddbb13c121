package tier

import (
	"cmp"
	"context"
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

// Migration says what of the store another bucket lacks.
func (t *Tier) Migration(ctx context.Context, to *bucket.Bucket) (*migrate.State, error) {
	return migrate.Look(ctx, part(t.cfg.Bucket, t.state.Store), part(to, t.state.Store))
}

// CopyTo copies what another bucket lacks, while the store is used.
func (t *Tier) CopyTo(ctx context.Context, to *bucket.Bucket, done func(migrate.Sum)) (migrate.Sum, error) {
	key, _, err := t.sealKey(ctx)
	if err != nil {
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
// anywhere, and called again.
func (t *Tier) MoveTo(ctx context.Context, to *bucket.Bucket, done func(migrate.Sum)) (copied migrate.Sum, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	old, id := part(t.cfg.Bucket, t.state.Store), t.state.Store
	secret, err := identity.Secret(t.cfg.FS, t.cfg.at("secret"))
	if err != nil {
		return copied, err
	}
	owner, etag, err := identity.ReadOwner(ctx, old, id)
	if err != nil {
		return copied, err
	}
	left := owner.Node == movedTo(to) && owner.Secret == secret
	if !left && (owner.Secret != secret || owner.Node != t.cfg.Node) {
		return copied, fmt.Errorf("move %s: %w: node %s has it", t.cfg.Bucket, cloud.ErrOwned, owner.Node)
	}
	key, f, err := t.sealKey(ctx)
	if err != nil {
		return copied, err
	}
	can, err := probe(ctx, Config{Bucket: to, SingleWriter: t.cfg.SingleWriter})
	if err != nil {
		return copied, err
	}
	if !left { // from here on no root is written there, by whomever
		leaves := layout.Owner{Store: id, Node: movedTo(to), Epoch: owner.Epoch + 1, Until: time.Now().UTC().Add(forGood), Secret: secret}
		if err := t.putOwner(ctx, t.cfg.Bucket.With(t.state.Can), leaves, etag); err != nil {
			return copied, err
		}
		owner = leaves
	}
	to = to.With(can)
	if copied, err = t.copyTo(ctx, to, key, done); err != nil {
		return copied, err
	}
	if err := t.checkCopy(ctx, to, key, f); err != nil {
		return copied, err
	}
	is, etag, err := identity.ReadOwner(ctx, part(to, id), id)
	if err != nil {
		return copied, err
	}
	next := layout.Owner{Store: id, Node: t.cfg.Node, Epoch: max(owner.Epoch, is.Epoch), Until: time.Now().UTC().Add(cmp.Or(t.cfg.Lease, 6*time.Hour)), Secret: secret}
	if err := t.putOwner(ctx, to, next, etag); err != nil {
		return copied, err
	}
	t.mu.Lock()
	t.state.Moved = &moved{to.String(), can}
	t.mu.Unlock()
	return copied, t.saveState()
}

func movedTo(to *bucket.Bucket) string { return "moved to " + to.String() }

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
	t.state.Can, t.state.Own, t.state.Moved = t.state.Moved.Can, true, nil
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
func (t *Tier) checkCopy(ctx context.Context, to *bucket.Bucket, key *seal.Key, f layout.Format) error {
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
