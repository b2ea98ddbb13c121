package vouch

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

func public(key [32]byte) ed25519.PublicKey { return ed25519.PublicKey(key[:]) }

// ErrUnsigned says that nobody who counts has signed what encrypted chunks are.
var ErrUnsigned = errors.New("its origin has not signed what its encrypted chunks are")

// ErrOther says that the bytes of an encrypted chunk are not those which its
// origin signed. They may be another encryption of the same content, so that is
// no proof of a lie; but nobody without the key can tell.
var ErrOther = errors.New("its origin has not signed these bytes")

// Check collects what the parts in blobs, which came with a snapshot, say of
// one of its indexes. It fails with [ErrUnsigned] unless its origin says what
// each of the chunks is.
func (k *Keeper) Check(m *manifest.Manifest, x chunks.Index, blobs []chunks.Blob) (map[chunks.Digest]Sum, error) {
	list := Distinct(x)
	sums := make(map[chunks.Digest]Sum, len(list))
	why := ErrUnsigned
	for _, b := range blobs {
		p, err := Open(b)
		if err == nil && p.Index != x.Csum() {
			continue
		}
		if err == nil {
			err = k.cfg.Believe(p.Key, m)
		}
		if err == nil && int(p.First)+len(p.Sums) > len(list) {
			err = ErrInvalid
		}
		if err != nil {
			why = fmt.Errorf("%w: %w", ErrUnsigned, err)
			continue
		}
		for i, s := range p.Sums {
			sums[list[int(p.First)+i]] = s
		}
	}
	if len(sums) < len(list) {
		return nil, why
	}
	return sums, nil
}

// All collects what the parts in blobs say of all indexes of encrypted chunks of a
// snapshot, by their names. A nil Keeper asks for nothing.
func (k *Keeper) All(m *manifest.Manifest, indexes map[string]chunks.Index, blobs []chunks.Blob) (map[string]map[chunks.Digest]Sum, error) {
	all := map[string]map[chunks.Digest]Sum{}
	if k == nil {
		return all, nil
	}
	for name, x := range indexes {
		if f, _ := m.File(name); !Needs(f) {
			continue
		}
		sums, err := k.Check(m, x, blobs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = sums
	}
	return all, nil
}

// Sums returns what is known here of the encrypted chunks of a snapshot: from
// the files that came with it, or from what this node signed as its origin.
func (k *Keeper) Sums(ctx context.Context, ns naming.Namespace, s naming.Snapshot) (map[chunks.Digest]Sum, error) {
	m, err := k.cfg.Local.Manifest(ns, s)
	if err != nil {
		return nil, err
	}
	names, err := k.cfg.Local.Files(ns, s)
	if err != nil {
		return nil, err
	}
	var blobs []chunks.Blob
	for _, name := range names {
		if !Is(name) {
			continue
		}
		if b, err := k.cfg.Local.ReadBlob(ns, s, name); err == nil {
			blobs = append(blobs, b)
		}
	}
	all := map[chunks.Digest]Sum{}
	for _, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !Needs(f) {
			continue
		}
		x, err := k.cfg.Local.ReadIndex(ns, s, f.Name)
		if err != nil {
			return nil, err
		}
		sums, err := k.Check(m, x, blobs)
		if err != nil && len(blobs) == 0 {
			sums, err = k.signed(x)
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", f.Name, s, err)
		}
		for d, sum := range sums {
			all[d] = sum
		}
	}
	return all, nil
}

// signed returns what this node signed about an index before.
func (k *Keeper) signed(x chunks.Index) (map[chunks.Digest]Sum, error) {
	parts, err := k.load(x.Csum())
	if err != nil {
		return nil, err
	}
	list := Distinct(x)
	sums := make(map[chunks.Digest]Sum, len(list))
	for _, p := range parts {
		for i, s := range p.Sums {
			if at := int(p.First) + i; at < len(list) {
				sums[list[at]] = s
			}
		}
	}
	if len(sums) < len(list) {
		return nil, ErrUnsigned
	}
	return sums, nil
}

// A Book has the sums of the chunks that are under way. Its methods may be
// called concurrently.
type Book struct {
	mu   sync.Mutex
	rows map[chunks.Digest][]Sum
	let  map[chunks.Digest]bool // nobody could have signed what they are
}

// Add notes what chunks may sum up to; of one chunk there may be several
// encryptions, each signed by the origin of another snapshot.
func (b *Book) Add(sums map[chunks.Digest]Sum, which []chunks.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rows == nil {
		b.rows = map[chunks.Digest][]Sum{}
	}
	for _, d := range which {
		if sum, ok := sums[d]; ok {
			b.rows[d] = append(b.rows[d], sum)
		}
	}
}

// Let notes chunks that nobody could have signed.
func (b *Book) Let(which []chunks.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.let == nil {
		b.let = map[chunks.Digest]bool{}
	}
	for _, d := range which {
		b.let[d] = true
	}
}

// Unsigned tells whether a chunk has to be taken as it comes: nobody could have
// signed what it is, and for no other snapshot anybody has.
func (b *Book) Unsigned(d chunks.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.let[d] && len(b.rows[d]) == 0
}

// Remove forgets chunks that have come, or will not.
func (b *Book) Remove(which ...chunks.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range which {
		delete(b.rows, d)
		delete(b.let, d)
	}
}

// Check fails with [ErrOther] unless an encrypted blob is one that an origin
// has signed. Others it leaves to those who check their names.
func (b *Book) Check(d chunks.Digest, blob chunks.Blob) error {
	kind, err := blob.Kind()
	if err != nil || !kind.IsEncrypted() {
		return err
	}
	sum := SumOf(blob)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, want := range b.rows[d] {
		if want == sum {
			return nil
		}
	}
	return ErrOther
}
