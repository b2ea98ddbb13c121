// Package feature is the level of features that a ledger has: what an older version of
// this program finds when it is given a ledger that a later one has written.
package feature

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Level is the feature level of this program.
const Level = 4

// ErrUnknown is what no program of this version can have written.
var ErrUnknown = errors.New("not known to this version of holdfast")

// A LaterError is a state of a level that this program does not know, and so of a
// later version. It is whole: that version reads it.
type LaterError struct{ Level uint64 }

func (e *LaterError) Error() string {
	return fmt.Sprintf("feature level %d, this program knows %d", e.Level, Level)
}
func (e *LaterError) Unwrap() error { return ErrUnknown }

// Later tells who knows no ledger that another program helps.
func (e *LaterError) Later() bool { return true }

// Known says whether this program knows the level of a state, by that one of its
// records that has the level. It does not mind fields that it does not know: they are
// what a later version has added.
func Known(meta []byte) error {
	var m struct {
		Level uint64 `cbor:"3,keyasint"`
	}
	if err := cbor.Unmarshal(meta, &m); err == nil && m.Level > Level {
		return &LaterError{m.Level}
	}
	return nil // what else is wrong is seen by who reads it
}
