package layout

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// An Owner says who may write. It is the only object that is replaced, and
// only under the condition that it is still the one that was read.
type Owner struct {
	Store  format.ID `json:"store"`
	Node   string    `json:"node"`
	Epoch  uint64    `json:"epoch"`
	Until  time.Time `json:"lease-until"`
	Secret string    `json:"nonce"` // tells two processes of one node apart

	Sum string `json:"sha256,omitempty"`
}

// EncodeOwner returns o as it is stored.
func EncodeOwner(o Owner) ([]byte, error) {
	o.Sum = noSum
	b, err := json.Marshal(o)
	return stamp(b), err
}

// DecodeOwner reads what EncodeOwner wrote, or a later version.
func DecodeOwner(b []byte) (o Owner, err error) {
	if err := json.Unmarshal(b, &o); err != nil {
		return o, err
	}
	return o, stamped(b, o.Sum)
}

// EncodeFormat returns f as it is stored.
func EncodeFormat(f Format) ([]byte, error) {
	f.Sum = noSum
	b, err := json.MarshalIndent(f, "", "  ")
	return stamp(b), err
}

// DecodeFormat reads what EncodeFormat wrote, or a later version.
func DecodeFormat(b []byte) (f Format, err error) {
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	return f, stamped(b, f.Sum)
}

// ErrSum says that a format or an owner is damaged, or was on its way.
var ErrSum = errors.New("it does not match its sum")

// Formats and owners are read without a key, and have nothing but a sum to tell
// that a bit was flipped: the SHA-256 of the object with zeros in its place. What
// older versions wrote has none.
var noSum = strings.Repeat("0", 2*sha256.Size)

func stamp(b []byte) []byte { return bytes.Replace(b, []byte(noSum), []byte(SumOf(b)), 1) }

func stamped(b []byte, sum string) error {
	if sum != "" && (len(sum) != len(noSum) || SumOf(bytes.Replace(b, []byte(sum), []byte(noSum), 1)) != sum) {
		return ErrSum
	}
	return nil
}
