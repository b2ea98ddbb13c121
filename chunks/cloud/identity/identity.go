// Package identity makes stores in buckets, and finds them there.
package identity

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// The ways in which a bucket is not what was hoped for.
var (
	ErrNoStore error = &Problem{"there is no store in this bucket", "check bucket and prefix; a new store is made by datastore create"}
	ErrDamaged error = &Problem{"what the bucket says of its owner is damaged", "if no other node owns the bucket: holdfast datastore take-over NAME --force, which writes it anew"}
	ErrTaken   error = &Problem{"the bucket holds a store already", "attach it with --reuse, or use another prefix"}
)

// A Problem is an error with a known cure.
type Problem struct{ Text, Cure string }

func (p *Problem) Error() string { return p.Text }

// Hint is printed on its own line below the error.
func (p *Problem) Hint() string { return p.Cure }

// Apart fails if the prefix of a bucket lies among the objects of a store: what this
// one has would be among them too.
func Apart(b *bucket.Bucket) error {
	_, _, _, prefix, _ := b.Place()
	within := layout.WithinStore(prefix)
	if within == "" {
		return nil
	}
	return &Problem{
		Text: fmt.Sprintf("the prefix %q is inside of %s, where the objects of another store are", strings.TrimSuffix(prefix, "/"), within),
		Cure: "give a prefix of its own, without hf1/ and the ID of a store in it; what is in this place already can be read: --reuse --read-only",
	}
}

const (
	formatName  = "holdfast-cloud"
	maxSmall    = 1 << 20 // bytes of the format
	defaultPack = 64 << 20
)

// Options say what a new store is like.
type Options struct {
	Encrypt    bool
	Recipients []age.Recipient // who can open the store's key: the node, and whoever keeps the recovery key
	Proof      age.Identity    // the recovery key itself, to prove that it opens the store
	PackBytes  int64           // default 64 MiB
}

// Create makes a new store in b and returns its ID. The recovery key is tried
// on what was written before it returns: a key that was mistyped is found on
// the day on which encryption is switched on, not on the day of the disaster.
func Create(ctx context.Context, b *bucket.Bucket, opt Options) (format.ID, error) {
	if opt.PackBytes == 0 {
		opt.PackBytes = defaultPack
	}
	if opt.Proof == nil || len(opt.Recipients) == 0 {
		return format.ID{}, fmt.Errorf("create store in %s: no recovery key", b)
	}
	if stores, err := Stores(ctx, b); err != nil {
		return format.ID{}, err
	} else if len(stores) > 0 {
		return format.ID{}, fmt.Errorf("create store in %s: %w: %s", b, ErrTaken, stores[0])
	}
	key := seal.NewKey()
	wrapped, err := key.Wrap(opt.Recipients...)
	if err != nil {
		return format.ID{}, err
	}
	signer, _ := key.Signer().Public().(ed25519.PublicKey)
	f := layout.Format{
		Format: formatName, Version: layout.Version, Store: format.NewID(), Created: time.Now().UTC(),
		PackBytes: opt.PackBytes, Wrapped: wrapped, Signer: signer,
	}
	if opt.Encrypt {
		f.KeyID = key.ID().String()
	}
	body, err := layout.EncodeFormat(f)
	if err != nil {
		return format.ID{}, err
	}
	part := b.Sub(layout.Root + f.Store.String())
	if _, err := part.PutBytes(ctx, layout.FormatKey, body, bucket.PutOption{New: b.Can().CreateOnce, Keep: true}); err != nil {
		return format.ID{}, err
	}
	stored, err := ReadFormat(ctx, part, f.Store)
	if err != nil {
		return format.ID{}, err
	}
	if proved, err := seal.Unwrap(stored.Wrapped, opt.Proof); err != nil || proved.ID() != key.ID() {
		err = errors.Join(errors.New("the recovery key does not open the store that was just made"), err)
		return format.ID{}, errors.Join(err, part.Delete(ctx, layout.FormatKey))
	}
	_, err = part.PutBytes(ctx, layout.FormatCopyKey, body, bucket.PutOption{New: b.Can().CreateOnce, Keep: true})
	return f.Store, err
}

// Stores lists the IDs of the stores in b, with one request.
func Stores(ctx context.Context, b *bucket.Bucket) (ids []format.ID, err error) {
	after := layout.Root
	for {
		var first string
		enough := errors.New("enough")
		err := b.ListAfter(ctx, layout.Root, after, func(page []bucket.Info) error {
			first = page[0].Key
			return enough
		})
		if err != nil && !errors.Is(err, enough) {
			return nil, err
		}
		if first == "" {
			return ids, nil
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(first, layout.Root), "/")
		var id format.ID
		if id.UnmarshalText([]byte(name)) == nil {
			ids = append(ids, id)
		}
		after = layout.Root + name + "0" // "0" is what comes behind "/"
	}
}

// ReadFormat reads the first object of a store; part is its part of the bucket. If it
// is gone or damaged, its copy is read, and the format says why.
func ReadFormat(ctx context.Context, part *bucket.Bucket, id format.ID) (f layout.Format, err error) {
	f, err = readFormat(ctx, part, layout.FormatKey, id)
	if errors.Is(err, errFormat) || errors.Is(err, bucket.ErrShort) || errors.Is(err, ErrNoStore) && !errors.Is(err, bucket.ErrNoBucket) {
		if twin, terr := readFormat(ctx, part, layout.FormatCopyKey, id); terr == nil {
			twin.Trouble = err
			return twin, nil
		}
	}
	return f, err
}

var errFormat = errors.New("it is not the format of the store")

func readFormat(ctx context.Context, part *bucket.Bucket, key string, id format.ID) (f layout.Format, err error) {
	body, _, err := part.Get(ctx, key, maxSmall)
	if errors.Is(err, bucket.ErrNotFound) {
		return f, fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	if err != nil {
		return f, err
	}
	if f, err = layout.DecodeFormat(body); err != nil || f.Format != formatName || f.Store != id {
		return f, errors.Join(fmt.Errorf("%s in %s, store %s: %w", key, part, id, errFormat), err)
	}
	if f.Version > layout.Version {
		return f, fmt.Errorf("store %s has version %d, this program knows %d", id, f.Version, layout.Version)
	}
	return f, nil
}

// Keep is ReadFormat that asks the bucket only the first time, and keeps the answer
// in a file: nothing replaces a format.
func Keep(ctx context.Context, fsys disk.FS, name string, part *bucket.Bucket, id format.ID) (f layout.Format, err error) {
	if b, rerr := disk.ReadFile(fsys, name, maxSmall); rerr == nil && json.Unmarshal(b, &f) == nil && f.Store == id {
		return f, nil
	}
	if f, err = ReadFormat(ctx, part, id); err != nil {
		return f, err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return f, err
	}
	return f, disk.WriteFileAtomic(fsys, name, b, 0o640)
}

// ReadOwner returns who owns a store, and the ETag of what says so; the zero
// Owner if nobody ever did. part is its part of the bucket.
func ReadOwner(ctx context.Context, part *bucket.Bucket, id format.ID) (o layout.Owner, etag string, err error) {
	b, info, err := part.Get(ctx, layout.OwnerKey, maxSmall)
	if errors.Is(err, bucket.ErrNotFound) {
		return layout.Owner{}, "", nil
	}
	if errors.Is(err, bucket.ErrShort) { // the provider sees the damage, and does not give it away
		return layout.Owner{}, "", fmt.Errorf("%s in %s: %w: %w", layout.OwnerKey, part, ErrDamaged, err)
	}
	if err != nil {
		return o, "", err
	}
	if o, err = layout.DecodeOwner(b); err == nil && o.Store != id {
		err = fmt.Errorf("it is that of store %s", o.Store)
	}
	if err != nil {
		return layout.Owner{}, info.ETag, fmt.Errorf("%s in %s: %w: %w", layout.OwnerKey, part, ErrDamaged, err)
	}
	return o, info.ETag, nil
}

// MendOwner writes an owner's object anew that was read and is damaged, if it still is
// what o's owner wrote last, which has that ETag: then nobody else came meanwhile. Else
// it returns why, which is what reading it returned.
func MendOwner(ctx context.Context, part *bucket.Bucket, o layout.Owner, etag string, why error) (string, error) {
	info, err := part.Head(ctx, layout.OwnerKey)
	if err != nil || etag == "" || info.ETag != etag {
		return etag, why
	}
	now, err := WriteOwner(ctx, part, o, etag)
	if err != nil {
		return etag, errors.Join(why, err)
	}
	return now, nil
}

// A written is the last object of an owner that was written from this disk, and those
// of which that is not known: a request that was cut off may arrive late.
type written struct {
	Owner layout.Owner   `json:"owner"`
	ETag  string         `json:"etag"`
	Tried []layout.Owner `json:"tried,omitempty"`
}

// maxTried is how many requests that were cut off are remembered.
const maxTried = 32

// KeepOwner keeps, in a file, what was written last, and the ETag that it has.
func KeepOwner(fsys disk.FS, name string, o layout.Owner, etag string) error {
	return keep(fsys, name, written{Owner: o, ETag: etag})
}

func keep(fsys disk.FS, name string, w written) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(fsys, name, b, 0o600)
}

// TakeOwner is WriteOwner for a node that keeps in a file what it writes. Where it finds
// that somebody came first it looks who: what an earlier request of its own has written,
// of which it never heard, does not keep it out. The file is written before the request.
func TakeOwner(ctx context.Context, fsys disk.FS, name string, part *bucket.Bucket, o layout.Owner, etag string) (string, error) {
	var w written
	if b, err := disk.ReadFile(fsys, name, maxSmall); err != nil || json.Unmarshal(b, &w) != nil {
		w = written{}
	}
	w.Tried = append(w.Tried[max(0, len(w.Tried)-maxTried+1):], o)
	if err := keep(fsys, name, w); err != nil {
		return "", err
	}
	for range len(w.Tried) + 1 {
		now, err := WriteOwner(ctx, part, o, etag)
		if !errors.Is(err, bucket.ErrChanged) && !errors.Is(err, bucket.ErrExists) {
			if err == nil {
				err = keep(fsys, name, written{Owner: o, ETag: now})
			}
			return now, err
		}
		there, tag, rerr := ReadOwner(ctx, part, o.Store)
		if rerr != nil || tag == "" || !slices.ContainsFunc(w.Tried, func(t layout.Owner) bool { return same(t, there) }) {
			return "", err
		}
		etag = tag
	}
	return "", bucket.ErrChanged
}

// same reports whether two are the same object.
func same(a, b layout.Owner) bool {
	x, err1 := layout.EncodeOwner(a)
	y, err2 := layout.EncodeOwner(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// RecoverOwner is MendOwner with what a file has kept. An object that still has the ETag
// of what was written from here was not written by anybody since: whoever came after has
// another content, and so another ETag. What is written anew is what that object said.
func RecoverOwner(ctx context.Context, fsys disk.FS, name string, part *bucket.Bucket, id format.ID, why error) (layout.Owner, string, error) {
	var last written
	b, err := disk.ReadFile(fsys, name, maxSmall)
	if err != nil || json.Unmarshal(b, &last) != nil || last.Owner.Store != id {
		return layout.Owner{}, "", why
	}
	etag, err := MendOwner(ctx, part, last.Owner, last.ETag, why)
	return last.Owner, etag, err
}

// Previous is ReadOwner for whoever is about to own the store. By force an owner's
// object that is damaged is as good as none. If there is none though the store was
// owned before, the bucket is looked at: one that was made anew, or is another one,
// is not taken for the store.
func Previous(ctx context.Context, part *bucket.Bucket, id format.ID, owned, force bool) (o layout.Owner, etag string, err error) {
	o, etag, err = ReadOwner(ctx, part, id)
	switch {
	case force && errors.Is(err, ErrDamaged):
		if etag == "" { // what it gave was not all
			info, err := part.Head(ctx, layout.OwnerKey)
			return layout.Owner{}, info.ETag, err
		}
		return layout.Owner{}, etag, nil
	case err == nil && etag == "" && owned && !force:
		_, err = ReadFormat(ctx, part, id)
	}
	return o, etag, err
}

// WriteOwner writes who owns a store, in the place of what has that ETag, "" if there
// is nothing; part is its part of the bucket.
func WriteOwner(ctx context.Context, part *bucket.Bucket, o layout.Owner, etag string) (string, error) {
	body, err := layout.EncodeOwner(o)
	if err != nil {
		return "", err
	}
	opt := bucket.PutOption{IfMatch: etag, New: etag == ""}
	if !part.Can().Fenced() {
		opt = bucket.PutOption{}
	}
	info, err := part.PutBytes(ctx, layout.OwnerKey, body, opt)
	return info.ETag, err
}

// Hold keeps a lease: it calls renew so often until ctx is done, while held says that
// there is one. It fails with what renew failed with when that is lost.
func Hold(ctx context.Context, every time.Duration, held func() bool, renew func(context.Context) error, lost error, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !held() {
			continue
		}
		err := renew(ctx)
		if errors.Is(err, lost) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("lease was not renewed", "err", err, "retry_in", every)
		}
	}
}

// Secret returns what tells this directory from another one of a node of the
// same name, and makes it if need be.
func Secret(fsys disk.FS, name string) (string, error) {
	if b, err := disk.ReadFile(fsys, name, 100); err == nil && len(b) > 0 {
		return string(b), nil
	}
	text := rand.Text()
	return text, disk.WriteFileAtomic(fsys, name, []byte(text), 0o600)
}
