// Package keyfile keeps Ed25519 keys: in files that only their owner may read,
// and one on paper.
package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	"github.com/holdfast-mesh/holdfast/access/statefile"
)

// maxFile bounds a file in bytes; one has some 120.
const maxFile = 4096

// Make returns the key in a file, and makes both if there is no file.
func Make(path string) (ed25519.PrivateKey, error) {
	key, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if _, err = statefile.WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), false); err != nil {
		return nil, fmt.Errorf("make key %s: %w", path, err)
	}
	return key, nil
}

// Read returns the key in a file.
func Read(path string) (ed25519.PrivateKey, error) {
	text, err := statefile.ReadSecret(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return key, nil
}

// parse reads PKCS #8 in PEM.
func parse(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, is := key.(ed25519.PrivateKey)
	if !is {
		return nil, errors.New("it is no Ed25519 key")
	}
	return private, nil
}

// What a key is on paper: 14 words of four letters and digits and one of two, which
// are the seed and its CRC-32 in base32.
var paper = base32.StdEncoding.WithPadding(base32.NoPadding)

const word = 4

// Paper returns a new key and the text of it for a person to keep.
func Paper() (ed25519.PrivateKey, string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	seed := key.Seed()
	text := paper.EncodeToString(binary.BigEndian.AppendUint32(seed, crc32.ChecksumIEEE(seed)))
	var words []string
	for len(text) > word {
		words, text = append(words, text[:word]), text[word:]
	}
	return key, strings.Join(append(words, text), "-"), nil
}

// ReadPaper reads what [Paper] has written, however it is spaced and whether or
// not the letters are capitals.
func ReadPaper(text string) (ed25519.PrivateKey, error) {
	only := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, strings.ToUpper(text))
	b, err := paper.DecodeString(only)
	if err != nil || len(b) != ed25519.SeedSize+4 || paper.EncodeToString(b) != only {
		return nil, errors.New("this is no recovery key: it has 14 words of four letters and digits, and one of two")
	}
	seed, sum := b[:ed25519.SeedSize], b[ed25519.SeedSize:]
	if !bytes.Equal(sum, binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(seed))) {
		return nil, errors.New("a letter or digit of the recovery key is wrong")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
