// Package layout is what lies in a bucket, to the byte: the names of objects,
// and the formats of packs, index objects, bundles, roots and the owner.
// docs/cloud.md describes it.
//
// All but the owner are written once and never changed, so caches, retries,
// versioned buckets and object locks are no trouble. In an encrypted store
// everything but the format and the owner is sealed ([seal.Key]).
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// The objects and folders of a store, below <prefix>/hf1/<store ID>/.
const (
	Version   = 1
	Root      = "hf1/"
	FormatKey = "format"
	OwnerKey  = "owner"
	PackDir   = "p/"
	IndexDir  = "i/"
	BundleDir = "s/"
	RootDir   = "r/"
	CanaryDir = "c/"

	FormatCopyKey = "format.copy" // the same once more: nothing can be opened without it
)

// PackKey is where a pack lies: one of 256 folders, so that listings can be
// split and no single one is hot.
func PackKey(id format.ID) string {
	sum := sha256.Sum256(id[:])
	return PackDir + hex.EncodeToString(sum[:1]) + "/" + id.String()
}

// ParsePackKey reads what PackKey writes.
func ParsePackKey(key string) (id format.ID, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if id.UnmarshalText([]byte(key[i+1:])) != nil {
		return id, false
	}
	return id, PackKey(id) == key
}

// A Seq orders what owners write: first by epoch, then by count.
type Seq struct {
	Epoch uint64 `json:"epoch"`
	N     uint64 `json:"n"`
}

// Less reports whether s came before o.
func (s Seq) Less(o Seq) bool { return s.Epoch < o.Epoch || s.Epoch == o.Epoch && s.N < o.N }

// String writes s so that the order of names is that of numbers.
func (s Seq) String() string { return fmt.Sprintf("%016x-%016x", s.Epoch, s.N) }

// ParseSeq reads what String writes.
func ParseSeq(text string) (s Seq, ok bool) {
	a, b, found := strings.Cut(text, "-")
	if !found || len(a) != 16 || len(b) != 16 {
		return s, false
	}
	var err1, err2 error
	s.Epoch, err1 = strconv.ParseUint(a, 16, 64)
	s.N, err2 = strconv.ParseUint(b, 16, 64)
	return s, err1 == nil && err2 == nil && s.String() == text
}

// RootKey, IndexKey and BundleKey are the names of the objects of one step. Of
// the latter two there may be several attempts, of which a root names one; tag
// tells them apart.
func RootKey(s Seq) string               { return RootDir + s.String() }
func IndexKey(s Seq, tag string) string  { return IndexDir + s.String() + "-" + tag }
func BundleKey(s Seq, tag string) string { return BundleDir + s.String() + "-" + tag }

// Ours reports whether a key, below that of a store, has the form of one that this
// program writes there. Whoever deletes what nothing names deletes nothing else: it
// may be anybody's.
func Ours(key string) bool {
	switch key {
	case FormatKey, FormatCopyKey, OwnerKey:
		return true
	}
	if _, pack := ParsePackKey(key); pack {
		return true
	}
	if name, root := strings.CutPrefix(key, RootDir); root {
		_, ok := ParseSeq(name)
		return ok
	}
	for _, end := range []string{"0canary-", "zcanary-"} {
		if tag, is := strings.CutPrefix(key, end); is {
			return isTag(tag)
		}
	}
	dir, name, _ := strings.Cut(key, "/")
	const step = 33 // bytes of a Seq as text
	if dir+"/" != IndexDir && dir+"/" != BundleDir || len(name) <= step || name[step] != '-' {
		return false
	}
	_, ok := ParseSeq(name[:step])
	return ok && isTag(name[step+1:])
}

// isTag reports whether text may tell attempts apart: it has letters and digits alone.
func isTag(text string) bool {
	return text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// WithinStore returns the part of a prefix that is a store: what lies below is among that
// one's objects. "" if there is none.
func WithinStore(prefix string) string {
	parts := strings.Split(prefix, "/")
	for i := 1; i < len(parts); i++ {
		raw, err := hex.DecodeString(parts[i])
		if err == nil && len(raw) == len(format.ID{}) && parts[i-1]+"/" == Root {
			return strings.Join(parts[:i+1], "/")
		}
	}
	return ""
}
