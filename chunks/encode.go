package chunks

import (
	"crypto/rand"
	"fmt"
)

// EncodeOptions say how a blob is made. The zero value makes a plain one.
type EncodeOptions struct {
	Compress bool // with zstd level 1, where that makes the content smaller
	Key      *Key // encrypts; nil leaves the content readable
}

// Encode makes a blob of plain. It uses dst's memory if that is large enough,
// as a buffer of [GetBuffer] for len(plain) is; dst and plain must not overlap.
// It fails if plain is longer than [MaxPlain] or the blob would be longer than
// [MaxBlob], which no server accepts.
func Encode(dst, plain []byte, opt EncodeOptions) (Blob, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("encode %d bytes: at most %d fit into a blob", len(plain), MaxPlain)
	}
	kind := Plain
	if opt.Key != nil {
		kind = Encrypted
	}
	header := kind.HeaderSize()
	room := len(plain)
	if opt.Compress {
		room = zstdEncoder().MaxEncodedSize(len(plain))
	}
	b := sized(dst, header+room+TagSize)[:header]
	payload := plain
	if opt.Compress {
		if packed := zstdEncoder().EncodeAll(plain, b)[header:]; len(packed) < len(plain) {
			kind |= Zstd
			payload = packed
		}
	}
	if size := header + len(payload); size > MaxBlob {
		return nil, fmt.Errorf("encode %d bytes: the blob has %d bytes, at most %d are allowed", len(plain), size, MaxBlob)
	}
	switch {
	case kind.IsEncrypted():
		b = seal(b, payload, opt.Key)
	case kind == Plain:
		b = append(b, payload...)
	default:
		b = b[:header+len(payload)] // compressed in place
	}
	copy(b, kindMagic[kind][:])
	Blob(b).setCRC(kind)
	return b, nil
}

// seal appends the ciphertext of payload to the header b and fills in IV and
// tag. The payload may already lie where its ciphertext goes.
func seal(b, payload []byte, key *Key) []byte {
	iv := b[ivStart:tagStart]
	rand.Read(iv) // never fails, see its documentation
	b, tag := key.Seal(b, iv, payload)
	copy(b[tagStart:], tag[:])
	return b
}
