package chunks

import "fmt"

// Decode returns the content of b, in dst's memory if that is large enough (for
// the content, and 16 bytes more if b is encrypted); b and dst must not overlap.
// The key is used only if b is encrypted.
//
// It fails with [ErrCorrupt] if the frame, the CRC or the compressed data are
// damaged or the content is longer than [MaxPlain], with [ErrNoKey] if key is
// nil and needed, and with [ErrWrongKey] if the content does not open with it.
func (b Blob) Decode(dst []byte, key *Key) ([]byte, error) {
	kind, err := b.check()
	if err != nil {
		return nil, err
	}
	return b.decode(kind, key, func(n int, exact bool) []byte {
		if !exact && cap(dst) > 0 {
			return dst[:0] // n may be far too high, and dst grows if need be
		}
		return sized(dst, n)
	})
}

// decode decodes a blob whose frame has been checked.
func (b Blob) decode(kind Kind, key *Key, room room) ([]byte, error) {
	payload := b[kind.HeaderSize():]
	switch kind {
	case Plain:
		return append(room(len(payload), true), payload...), nil
	case Zstd:
		return unzstd(payload, room)
	case Encrypted:
		return b.open(room(len(payload)+TagSize, true), key)
	}
	scratch := GetBuffer(len(payload))
	defer scratch.Free()
	frames, err := b.open(scratch.Bytes, key)
	if err != nil {
		return nil, err
	}
	return unzstd(frames, room)
}

// open appends the decrypted payload of an encrypted blob to dst.
func (b Blob) open(dst []byte, key *Key) ([]byte, error) {
	if key == nil {
		return nil, ErrNoKey
	}
	iv, tag := b[ivStart:tagStart], b[tagStart:EncryptedHeaderSize]
	plain, err := key.Open(dst, iv, tag, b[EncryptedHeaderSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	return plain, nil
}

// Verify checks that b is intact and holds the content that d names. It fails
// with [ErrCorrupt] if not.
//
// Of an encrypted blob and no key it checks length, magic and CRC only: the
// content cannot be seen, nor can IV and tag, which the CRC leaves out. With a
// key that does not fit it fails with [ErrWrongKey] alone. A damaged tag looks
// the same; a caller that knows the key to be right takes it for damage.
func (b Blob) Verify(d Digest, key *Key) error {
	kind, err := b.check()
	if err != nil {
		return err
	}
	var sum Digest
	switch {
	case kind == Plain:
		sum = Sum(b[PlainHeaderSize:])
	case kind.IsEncrypted() && key == nil:
		return nil
	default:
		if sum, err = b.sum(kind, key); err != nil {
			return err
		}
	}
	if sum != d {
		return fmt.Errorf("%w: the content's digest is %s, not %s", ErrCorrupt, sum.Short(), d.Short())
	}
	return nil
}

// sum decodes b into borrowed memory and returns the digest of the content.
func (b Blob) sum(kind Kind, key *Key) (Digest, error) {
	var scratch *Buffer
	defer func() {
		if scratch != nil {
			scratch.Free()
		}
	}()
	content, err := b.decode(kind, key, func(n int, _ bool) []byte {
		scratch = GetBuffer(n)
		return scratch.Bytes
	})
	switch {
	case err != nil:
		return Digest{}, err
	case kind.IsEncrypted():
		return key.Digest(content), nil
	}
	return Sum(content), nil
}
