package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// skew is how wrong clocks may be before a lease is misjudged.
const skew = 10 * time.Minute

// A Place is the other bucket's part for a store, of which we know that nobody else
// works there: what somebody else wrote into a copy is a store of its own, and neither
// is written over nor mixed with ours.
type Place struct {
	from, to *bucket.Bucket // the store's parts
	id       format.ID
	secret   string // of our owner's object

	owner layout.Owner // that is there; zero: none
	etag  string
	roots []layout.Seq // that are there
}

// Free looks whether the other bucket is one to copy the store to, without writing to
// it: it is not the one that the store is in, by another name; nobody else owns it; and
// nobody else has written roots there since it was copied. secret is that of our owner's
// objects.
func Free(ctx context.Context, from, to *bucket.Bucket, id format.ID, secret string) (*Place, error) {
	part := layout.Root + id.String()
	p := &Place{from: from.Sub(part), to: to.Sub(part), id: id, secret: secret}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	var err error
	if p.roots, err = roots(ctx, p.to); err != nil {
		return nil, err
	}
	if !p.ours() && p.owner.Epoch > 0 && time.Now().Before(p.owner.Until.Add(skew)) {
		return nil, p.taken("belongs to " + p.who() + " until " + p.owner.Until.Format(time.RFC3339))
	}
	return p, p.compare(ctx)
}

// read reads the owner's object of both. Only in one and the same bucket it is the very
// same one, which a copy has not, or has of its own; it may be renewed while we look.
func (p *Place) read(ctx context.Context) error {
	var seen [3]layout.Owner
	for i, b := range []*bucket.Bucket{p.from, p.to, p.from} {
		o, etag, err := identity.ReadOwner(ctx, b, p.id)
		if err != nil {
			return err
		}
		if b == p.to {
			p.owner, p.etag = o, etag
			if etag == "" {
				return nil
			}
		}
		seen[i] = o
	}
	same := func(a, b layout.Owner) bool {
		return a.Epoch > 0 && a.Secret == b.Secret && a.Epoch == b.Epoch && a.Until.Equal(b.Until)
	}
	if same(seen[1], seen[0]) || same(seen[1], seen[2]) {
		return &identity.Problem{
			Text: fmt.Sprintf("%s is the bucket in which the store is, by another name", p.to),
			Cure: "name another bucket, or another prefix; to reach the same bucket by another name, change the endpoint: holdfast s3 endpoint update ID --endpoint URL",
		}
	}
	return nil
}

func (p *Place) ours() bool { return p.owner.Secret == p.secret }

func (p *Place) who() string {
	if p.owner.Node == "" {
		return "somebody"
	}
	if strings.HasPrefix(p.owner.Node, "moved to ") {
		return "another node, whose store " + p.owner.Node
	}
	return "node " + p.owner.Node
}

func (p *Place) taken(why string) error {
	return &identity.Problem{
		Text: fmt.Sprintf("%s %s: nothing is copied over it", p.to, why),
		Cure: "copy to another bucket, or with another --prefix: what was backed up there is in that place only. If that node has written nothing there, remove its datastore there, wait until its lease has ended, and try again",
	}
}

// compare fails if somebody else has written roots. Ours are in both buckets; of each
// epoch the oldest ones go in time, in the old bucket first. If another node owns the
// place, roots of its epoch and later ones have to be ours byte for byte.
func (p *Place) compare(ctx context.Context) error {
	here, err := roots(ctx, p.from)
	if err != nil {
		return err
	}
	has, newest := map[layout.Seq]bool{}, map[uint64]uint64{}
	var first layout.Seq
	for i, s := range here { // in order
		has[s], newest[s.Epoch] = true, s.N
		if i == 0 {
			first = s
		}
	}
	for _, s := range p.roots {
		ok := has[s]
		if !p.ours() && p.etag != "" && s.Epoch >= p.owner.Epoch {
			if ok {
				foreign, err := p.differs(ctx, s)
				if err != nil {
					return err
				}
				ok = !foreign
			}
		} else {
			ok = ok || s.Less(first) || s.N < newest[s.Epoch]
		}
		if !ok {
			return p.taken("was written to since it was copied, last by " + p.who() + ": root " + s.String() + " is not ours")
		}
	}
	return nil
}

// differs reports whether a root is another one in the other bucket.
func (p *Place) differs(ctx context.Context, s layout.Seq) (bool, error) {
	ours, _, err := p.from.Get(ctx, layout.RootKey(s), maxObject)
	if err != nil {
		return false, err
	}
	theirs, _, err := p.to.Get(ctx, layout.RootKey(s), maxObject)
	return !bytes.Equal(ours, theirs), err
}

// Same fails if the root of that step is another one in the other bucket.
func (p *Place) Same(ctx context.Context, s layout.Seq) error {
	if s.N == 0 {
		return nil // there is none yet
	}
	foreign, err := p.differs(ctx, s)
	if err == nil && foreign {
		err = p.taken("has another root " + s.String())
	}
	return err
}

// Still fails if somebody has become the owner since we looked.
func (p *Place) Still(ctx context.Context) error {
	is, etag, err := identity.ReadOwner(ctx, p.to, p.id)
	if err == nil && etag != p.etag {
		p.owner = is
		err = p.taken("belongs to " + p.who() + " now, which came while it was copied")
	}
	return err
}

// Own makes the place the home of the store, under the condition that nobody came since
// we looked. The epoch is above that of whoever was its owner, and of every root there.
// A root that somebody wrote in between, whose lease had ended, is seen by looking once
// more; then all stays as it was.
func (p *Place) Own(ctx context.Context, to *bucket.Bucket, o layout.Owner) error {
	p.to = p.to.With(to.Can())
	o.Epoch = max(o.Epoch, p.owner.Epoch+1)
	for _, s := range p.roots {
		o.Epoch = max(o.Epoch, s.Epoch+1)
	}
	etag, err := identity.WriteOwner(ctx, p.to, o, p.etag)
	if errors.Is(err, bucket.ErrChanged) || errors.Is(err, bucket.ErrExists) {
		return errors.Join(p.Still(ctx), err)
	}
	if err != nil {
		return err
	}
	now, err := roots(ctx, p.to)
	if err == nil && len(now) > 0 && (len(p.roots) == 0 || p.roots[len(p.roots)-1].Less(now[len(now)-1])) {
		err = p.taken("was written to at this moment, by " + p.who())
	}
	if err != nil && p.etag != "" {
		_, undo := identity.WriteOwner(ctx, p.to, p.owner, etag)
		err = errors.Join(err, undo)
	}
	return err
}

// roots lists the steps of the roots in a bucket, in order.
func roots(ctx context.Context, b *bucket.Bucket) (list []layout.Seq, err error) {
	err = b.List(ctx, layout.RootDir, func(page []bucket.Info) error {
		for _, o := range page {
			if s, ok := layout.ParseSeq(strings.TrimPrefix(o.Key, layout.RootDir)); ok {
				list = append(list, s)
			}
		}
		return nil
	})
	return list, err
}
