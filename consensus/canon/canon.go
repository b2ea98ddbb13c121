// Package canon turns values into bytes and back so that equal values are
// equal bytes: what is signed, hashed or compared as bytes is written by it.
//
// The bytes are CBOR in the deterministic form of RFC 8949 §4.2.1. Structs
// number their fields with `cbor:"1,keyasint,omitempty"`; a number is never
// used again for something else. Whoever reads is strict: bytes that this
// package would not write (another order, a longer form of a number, a field
// twice, a field that is not known) are refused, so there is one spelling of
// every value and no field can be smuggled past a program that ignores it.
package canon

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrForm is what every refusal of [Decode] is.
var ErrForm = errors.New("not in canonical form")

var (
	encoding = must(cbor.EncOptions{
		Sort: cbor.SortCoreDeterministic, ShortestFloat: cbor.ShortestFloat16, NaNConvert: cbor.NaNConvert7e00,
		InfConvert: cbor.InfConvertFloat16, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.EncMode())
	decoding = must(strict.DecMode())
	clipped  = must(lax(strict).DecMode())
)

var strict = cbor.DecOptions{
	DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 16,
	MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 17, UTF8: cbor.UTF8RejectInvalid,
}

func lax(o cbor.DecOptions) cbor.DecOptions {
	o.UTF8 = cbor.UTF8DecodeInvalid
	return o
}

func must[T any](mode T, err error) T {
	if err != nil {
		panic("canon: " + err.Error())
	}
	return mode
}

// Encode returns the bytes of v. It panics on a type that has none, which is
// an error of the program and not of its input.
func Encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("canon: encode %T: %v", v, err))
	}
	return b
}

// Decode reads into v, a pointer, what [Encode] wrote, and nothing else.
func Decode(b []byte, v any) error { return decode(decoding, b, v) }

// DecodeClipped is Decode of what may have text that was cut in the middle of a
// letter. It is as strict otherwise.
func DecodeClipped(b []byte, v any) error { return decode(clipped, b, v) }

func decode(mode cbor.DecMode, b []byte, v any) error {
	if err := mode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if again, err := encoding.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: the same value is written in another way", ErrForm)
	}
	return nil
}

// Sum is the SHA-256 of b.
func Sum(b []byte) [32]byte { return sha256.Sum256(b) }
