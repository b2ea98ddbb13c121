// Package frame writes and reads the messages of the protocols between nodes:
// 4 bytes of length, big endian, and CBOR in the deterministic form of RFC 8949
// §4.2.1.
//
// Whoever reads says how long a message may be, and is strict: bytes that
// [Encode] would not write, for a field that is not known or a number in a
// longer form, are refused.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// ErrForm is what every message is that is too long or that nobody of us wrote.
var ErrForm = errors.New("not a message of this protocol")

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8, MaxArrayElements: 1 << 16, MaxMapPairs: 64,
		UTF8: cbor.UTF8RejectInvalid,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("frame: " + err.Error())
	}
	return mode
}

// Encode returns the bytes of v. It panics on a type that has none, which is
// an error of the program and not of its input.
func Encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("frame: encode %T: %v", v, err))
	}
	return b
}

// Decode reads into v, a pointer, what [Encode] wrote, and nothing else.
func Decode(b []byte, v any) error {
	if err := decoding.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if again, err := encoding.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: the same value is written in another way", ErrForm)
	}
	return nil
}

// Write sends v as one message.
func Write(w io.Writer, v any) error {
	body := Encode(v)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// Read receives one message of at most most bytes into v, a pointer.
func Read(r io.Reader, most int, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(most) {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrForm, n, most)
	}
	// The memory grows with what comes, not with what was announced.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		return unexpected(err)
	}
	return Decode(body.Bytes(), v)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
