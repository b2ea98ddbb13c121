package goodbye

import (
	"encoding/binary"
	"math/bits"
)

// The key of name hashes (§4): the first 16 bytes of the SHA-1 of "PROXMOX
// ARCHIVE FORMAT", as two big-endian words.
const (
	hashKey0 = 0x83ac3f1cfbb450db
	hashKey1 = 0xaa4f1b6879369fbd
)

// Hash returns the hash by which tables find a name.
func Hash(name string) uint64 { return sipHash(hashKey0, hashKey1, name) }

// sipHash is SipHash-2-4 (Aumasson and Bernstein, 2012) with a 64-bit result.
func sipHash(k0, k1 uint64, data string) uint64 {
	s := sipState{
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573,
	}
	last := uint64(len(data)) << 56
	var word [8]byte
	for ; len(data) >= 8; data = data[8:] {
		copy(word[:], data)
		s.mix(binary.LittleEndian.Uint64(word[:]))
	}
	for i := range len(data) {
		last |= uint64(data[i]) << (8 * i)
	}
	s.mix(last)
	s[2] ^= 0xff
	for range 4 {
		s.round()
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

type sipState [4]uint64

func (s *sipState) mix(word uint64) {
	s[3] ^= word
	s.round()
	s.round()
	s[0] ^= word
}

func (s *sipState) round() {
	s[0] += s[1]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[3]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] += s[3]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] += s[1]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[2] = bits.RotateLeft64(s[2], 32)
}
