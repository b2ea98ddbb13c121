package layout

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Format is the first object of a store. It is written once and can be read
// without a key.
type Format struct {
	Format  string    `json:"format"` // "holdfast-cloud"
	Version int       `json:"version"`
	Store   format.ID `json:"store"`
	Created time.Time `json:"created"`

	PackBytes int64  `json:"pack-bytes"`
	KeyID     string `json:"key-id,omitempty"`      // of an encrypted store
	Wrapped   []byte `json:"wrapped-key,omitempty"` // age, to the node and to the recovery key
	Signer    []byte `json:"signer"`                // who signs roots, Ed25519
	Sum       string `json:"sha256,omitempty"`

	Trouble error `json:"-"` // why it was read from its copy; nil: it was not
}

// An Object is named by a root, with the SHA-256 of its bytes as stored.
type Object struct {
	Key   string `json:"key"`
	Size  int64  `json:"size"`
	Sum   string `json:"sha256"`
	Items int    `json:"items"` // packs or files in it
}

// SumOf returns the sum that an Object has.
func SumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// A Tombstone is a pack that nothing needs. It is deleted when it has been
// named by roots for long enough.
type Tombstone struct {
	Pack    format.ID `json:"pack"`
	Since   time.Time `json:"since"`
	Deleted bool      `json:"deleted,omitempty"` // its object is gone; an index object names it still
	Held    time.Time `json:"held,omitzero"`     // until then it is locked, and stays
	Bytes   int64     `json:"bytes,omitempty"`   // of its object; 0 in roots of versions that did not note it
}

// Lies is how many bytes of the pack are in the bucket still, and billed.
func (t Tombstone) Lies() int64 {
	if t.Deleted {
		return 0
	}
	return t.Bytes
}

// Lying is how many bytes of dead packs are in the bucket still.
func Lying[T interface{ Lies() int64 }](dead []T) (n int64) {
	for _, t := range dead {
		n += t.Lies()
	}
	return n
}

// A Head is the content of a root: all there is in the store.
type Head struct {
	Version int       `json:"version"`
	Store   format.ID `json:"store"`
	Seq     Seq       `json:"seq"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`

	Index   []Object    `json:"index,omitempty"`
	Bundles []Object    `json:"bundles,omitempty"` // later ones replace files of earlier ones
	Removed []string    `json:"removed,omitempty"` // files of bundles that are no more
	Dead    []Tombstone `json:"dead,omitempty"`

	Locked   time.Time `json:"locked,omitzero"`     // when the locks of all objects were renewed last
	LockDays int       `json:"lock-days,omitempty"` // and for how many days

	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
}

// Keys returns the objects that h needs beside the packs, itself and the format too.
func (h *Head) Keys() []string {
	keys := []string{FormatKey}
	if h.Seq.N > 0 { // else nothing was written yet
		keys = append(keys, RootKey(h.Seq))
	}
	for _, list := range [][]Object{h.Index, h.Bundles} {
		for _, o := range list {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

// HeldUntil returns when the last lock of a dead pack ends; zero: there is none.
func (h *Head) HeldUntil() (until time.Time) {
	for _, t := range h.Dead {
		if t.Held.After(until) {
			until = t.Held
		}
	}
	return until
}

// Buried returns the packs that h names as dead.
func (h *Head) Buried() map[format.ID]bool {
	dead := map[format.ID]bool{}
	for _, t := range h.Dead {
		dead[t.Pack] = true
	}
	return dead
}

// Resting returns those of them that were not deleted yet.
func (h *Head) Resting() map[format.ID]bool {
	dead := map[format.ID]bool{}
	for _, t := range h.Dead {
		if !t.Deleted {
			dead[t.Pack] = true
		}
	}
	return dead
}

// signedRoot is a root as it is stored: the bytes that were signed, the key
// and the signature.
type signedRoot struct {
	Head   json.RawMessage `json:"head"`
	Signer []byte          `json:"signer"`
	Sig    []byte          `json:"sig"`
}

const rootLabel = "holdfast cloud root\x00"

// SignRoot returns h as a root.
func SignRoot(h *Head, key ed25519.PrivateKey) ([]byte, error) {
	h.Version = Version
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	pub, _ := key.Public().(ed25519.PublicKey)
	return json.Marshal(signedRoot{body, pub, ed25519.Sign(key, append([]byte(rootLabel), body...))})
}

// ErrForged says that a root was not signed by whom the store trusts.
var ErrForged = errors.New("the root is not signed by this store's key")

// OpenRoot checks a root of the store and returns its content. signer is the
// key that must have signed it.
func OpenRoot(b []byte, store format.ID, seq Seq, signer ed25519.PublicKey) (*Head, error) {
	var r signedRoot
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("root %s: %w", seq, err)
	}
	if len(signer) != ed25519.PublicKeySize || !signer.Equal(ed25519.PublicKey(r.Signer)) ||
		!ed25519.Verify(signer, append([]byte(rootLabel), r.Head...), r.Sig) {
		return nil, fmt.Errorf("root %s: %w", seq, ErrForged)
	}
	h := &Head{}
	if err := json.Unmarshal(r.Head, h); err != nil {
		return nil, fmt.Errorf("root %s: %w", seq, err)
	}
	switch {
	case h.Version > Version:
		return nil, fmt.Errorf("root %s has version %d, this program knows %d", seq, h.Version, Version)
	case h.Store != store || h.Seq != seq:
		return nil, fmt.Errorf("root %s is that of store %s, step %s: %w", seq, h.Store, h.Seq, ErrForged)
	}
	return h, nil
}
