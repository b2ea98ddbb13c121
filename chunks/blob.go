package chunks

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A Blob is an encoded DataBlob (PBS protocol notes §5.2), the form in which
// chunks and small files lie on disks and cross wires:
//
//	 0  8  magic, which tells the [Kind]
//	 8  4  CRC-32 (IEEE) of everything after the header, little endian
//	12 16  IV            encrypted kinds only
//	28 16  AES-GCM tag   encrypted kinds only
//	12 or 44             payload: plain, zstd frames, or the ciphertext of either
type Blob []byte

// Sizes of blobs in bytes. The limits are those of a PBS server and client.
const (
	PlainHeaderSize     = 12
	EncryptedHeaderSize = 44
	MaxBlob             = 16<<20 + EncryptedHeaderSize // encoded, header included
	MaxPlain            = 128 << 20                    // content before encoding
)

const (
	magicSize = 8
	ivStart   = 12
	tagStart  = 28
)

// A Kind says how a blob's payload is encoded.
type Kind uint8

// The four kinds. The bits are those of compression and of encryption.
const (
	Plain         Kind = 0
	Zstd          Kind = 1
	Encrypted     Kind = 2
	ZstdEncrypted Kind = Zstd | Encrypted
)

// kindMagic is the first 8 bytes of the SHA-256 of a label, per kind (§5.1).
var kindMagic = [...][magicSize]byte{
	Plain:         {0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1},
	Zstd:          {0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f},
	Encrypted:     {0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0},
	ZstdEncrypted: {0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b},
}

// String names the kind: "plain", "zstd", "encrypted", "zstd+encrypted".
func (k Kind) String() string {
	names := [...]string{"plain", "zstd", "encrypted", "zstd+encrypted"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// IsZstd reports whether the content is compressed.
func (k Kind) IsZstd() bool { return k&Zstd != 0 }

// IsEncrypted reports whether a key is needed to read the content.
func (k Kind) IsEncrypted() bool { return k&Encrypted != 0 }

// HeaderSize returns the bytes before the payload, 12 or 44.
func (k Kind) HeaderSize() int {
	if k.IsEncrypted() {
		return EncryptedHeaderSize
	}
	return PlainHeaderSize
}

// Kind tells how b is encoded, from its magic. It fails with [ErrCorrupt] if b
// is shorter than the header of its kind or begins like no blob.
func (b Blob) Kind() (Kind, error) {
	if len(b) < PlainHeaderSize {
		return 0, fmt.Errorf("%w: %d bytes are too few for a blob", ErrCorrupt, len(b))
	}
	for k, magic := range kindMagic {
		if [magicSize]byte(b) != magic {
			continue
		}
		kind := Kind(k)
		if len(b) < kind.HeaderSize() {
			return 0, fmt.Errorf("%w: %d bytes are too few for an %s blob", ErrCorrupt, len(b), kind)
		}
		return kind, nil
	}
	return 0, fmt.Errorf("%w: %x is not the magic of a blob", ErrCorrupt, b[:magicSize])
}

// Check checks what can be checked without decoding: length, magic and CRC. It
// fails with [ErrCorrupt].
func (b Blob) Check() error {
	_, err := b.check()
	return err
}

func (b Blob) check() (Kind, error) {
	if len(b) > MaxBlob {
		return 0, fmt.Errorf("%w: a blob of %d bytes, at most %d are allowed", ErrCorrupt, len(b), MaxBlob)
	}
	kind, err := b.Kind()
	if err != nil {
		return 0, err
	}
	sum := crc32.ChecksumIEEE(b[kind.HeaderSize():])
	if stored := binary.LittleEndian.Uint32(b[magicSize:]); stored != sum {
		return 0, fmt.Errorf("%w: the blob's CRC is %08x, its header says %08x", ErrCorrupt, sum, stored)
	}
	return kind, nil
}

// SetCRC writes the CRC of b's payload into b. A server does so with every
// chunk it is sent, for clients may put anything into that field (§3.4).
func (b Blob) SetCRC() error {
	kind, err := b.Kind()
	if err != nil {
		return err
	}
	b.setCRC(kind)
	return nil
}

func (b Blob) setCRC(kind Kind) {
	binary.LittleEndian.PutUint32(b[magicSize:], crc32.ChecksumIEEE(b[kind.HeaderSize():]))
}

// PlainLen returns the length of the content in bytes without decoding it. It
// is known of plain and of encrypted blobs, and of zstd ones that are a single
// frame which declares its length, as ours are and PBS's are not. The
// declaration is believed: only decoding proves it.
func (b Blob) PlainLen() (n int, ok bool) {
	kind, err := b.Kind()
	if err != nil {
		return 0, false
	}
	payload := b[kind.HeaderSize():]
	switch kind {
	case Plain, Encrypted:
		return len(payload), true
	case Zstd:
		if size, err := scanFrames(payload); err == nil && size.exact {
			return size.bound, true
		}
	}
	return 0, false
}

// ErrNoKey and ErrWrongKey are the two ways in which an encrypted blob cannot
// be read though nothing is wrong with it. Match them with errors.Is.
var (
	ErrNoKey error = &keyError{
		"content is encrypted and there is no key",
		"name the key file with --keyfile",
	}
	ErrWrongKey error = &keyError{
		"content does not open with this key",
		"compare the key's fingerprint with the one in the snapshot's manifest; if they are equal, the chunk is damaged",
	}
)

type keyError struct{ text, hint string }

func (e *keyError) Error() string { return e.text }

// Hint is printed on its own line below the error.
func (e *keyError) Hint() string { return e.hint }
