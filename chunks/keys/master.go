package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Limits in bytes and bits of what is read as a master key. Time to check an
// RSA key grows with the cube of its size.
const (
	maxMasterDER  = 8 << 10
	minMasterBits = 2048
	maxMasterBits = 8192
	newMasterBits = 4096
)

// Types of PEM blocks.
const (
	pemEncrypted = "ENCRYPTED PRIVATE KEY" // PKCS #8 under PBES2
	pemPrivate   = "PRIVATE KEY"           // PKCS #8 in the open
	pemPublic    = "PUBLIC KEY"
)

// errOldPEM is a private key as clients before OpenSSL 3 wrote it, under a
// key that one round of MD5 derives.
var errOldPEM error = &failure{
	"the private key is in the old format of OpenSSL",
	"convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem",
}

// CreateMaster makes a master key, RSA of 4096 bits. That takes about a
// second, sometimes ten, and cannot be interrupted.
func CreateMaster() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, newMasterBits)
	if err != nil {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	return key, nil
}

// MarshalMaster writes a master key as PKCS #8 in PEM, locked with the
// passphrase by PBES2 (PBKDF2 with HMAC-SHA256, AES-256-CBC) as the real
// client's are. It fails with [ErrShortPassphrase]. The passphrase stays the
// caller's.
func MarshalMaster(key *rsa.PrivateKey, passphrase []byte) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("lock master key: %w", ErrShortPassphrase)
	}
	return marshalMaster(key, passphrase, masterRounds)
}

func marshalMaster(key *rsa.PrivateKey, passphrase []byte, rounds int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("lock master key: %w", err)
	}
	defer clear(der)
	locked, err := encryptKey(der, passphrase, rounds)
	if err != nil {
		return nil, fmt.Errorf("lock master key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: locked}), nil
}

// ParseMaster reads the private key that [MarshalMaster], the real client or
// OpenSSL 3 wrote; of other text around it, such as that of a [Paper], it
// takes no notice. It asks for the passphrase only if there is one, and fails
// with [ErrPassphraseNeeded] and [ErrWrongPassphrase] as [File.Unlock] does.
func ParseMaster(text []byte, prompt Prompt) (*rsa.PrivateKey, error) {
	key, err := parseMaster(text, prompt)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return key, nil
}

func parseMaster(text []byte, prompt Prompt) (*rsa.PrivateKey, error) {
	block, err := privateBlock(text)
	if err != nil {
		return nil, err
	}
	if block.Type == pemPrivate {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return rsaKey(parsed)
	}
	locked, err := parseEncryptedKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	passphrase, err := prompt.ask()
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	der, err := locked.decrypt(passphrase)
	if err != nil {
		return nil, ErrWrongPassphrase
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, ErrWrongPassphrase // one in 256 wrong ones leaves good padding
	}
	return rsaKey(parsed)
}

// privateBlock finds the private key in text and says which formats it is not.
func privateBlock(text []byte) (*pem.Block, error) {
	block, err := pemBlock(text)
	switch {
	case err != nil:
		return nil, err
	case block.Type == "RSA PRIVATE KEY":
		return nil, errOldPEM
	case block.Type != pemEncrypted && block.Type != pemPrivate:
		return nil, fmt.Errorf("PEM block is a %.40q, want %q", block.Type, pemEncrypted)
	}
	return block, nil
}

// pemBlock finds the first PEM block in text, which may be a whole paper.
func pemBlock(text []byte) (*pem.Block, error) {
	if len(text) > maxPaper {
		return nil, fmt.Errorf("%d bytes of text, at most %d are allowed", len(text), maxPaper)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block found")
	}
	if len(block.Bytes) > maxMasterDER {
		return nil, fmt.Errorf("PEM block of %d bytes, at most %d are allowed", len(block.Bytes), maxMasterDER)
	}
	return block, nil
}

func rsaKey(parsed any) (*rsa.PrivateKey, error) {
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T, want RSA", parsed)
	}
	return key, checkBits(&key.PublicKey)
}

func checkBits(key *rsa.PublicKey) error {
	if n := key.N.BitLen(); n < minMasterBits || n > maxMasterBits {
		return fmt.Errorf("RSA key of %d bits, want %d to %d", n, minMasterBits, maxMasterBits)
	}
	return nil
}

// MarshalMasterPublic writes the public half of a master key as the real
// client does (SubjectPublicKeyInfo in PEM); it is no secret.
func MarshalMasterPublic(key *rsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write public master key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// ParseMasterPublic reads what [MarshalMasterPublic] or the real client wrote.
func ParseMasterPublic(text []byte) (*rsa.PublicKey, error) {
	key, err := parseMasterPublic(text)
	if err != nil {
		return nil, fmt.Errorf("read public master key: %w", err)
	}
	return key, nil
}

func parseMasterPublic(text []byte) (*rsa.PublicKey, error) {
	block, err := pemBlock(text)
	if err != nil {
		return nil, err
	}
	if block.Type != pemPublic {
		return nil, fmt.Errorf("PEM block is a %.40q, want %q", block.Type, pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T, want RSA", parsed)
	}
	return key, checkBits(key)
}

// EncryptWithMaster encrypts a key file without passphrase ([File.Unlocked])
// for the owner of a master key: the content of rsa-encrypted.key.blob, as
// long as the RSA key, 512 bytes for 4096 bits. The padding is that of PKCS #1
// v1.5, since the real client reads no other.
func EncryptWithMaster(f *File, public *rsa.PublicKey) ([]byte, error) {
	if f.lock != nil {
		return nil, fmt.Errorf("encrypt %s for the master key: it is locked with a passphrase", f)
	}
	text := f.Bytes()
	defer clear(text)
	//lint:ignore SA1019 the format demands it, and nobody answers an attacker's guesses
	blob, err := rsa.EncryptPKCS1v15(rand.Reader, public, text)
	if err != nil {
		return nil, fmt.Errorf("encrypt %s for the master key: %w", f, err)
	}
	return blob, nil
}

// DecryptWithMaster opens what [EncryptWithMaster] made. It fails with
// [ErrWrongMaster] if the master key is another one or blob is damaged. It
// must not be run for strangers: whether it fails tells about the master key.
func DecryptWithMaster(blob []byte, master *rsa.PrivateKey) (*File, error) {
	//lint:ignore SA1019 the format demands it, and nobody answers an attacker's guesses
	text, err := rsa.DecryptPKCS1v15(nil, master, blob)
	if err != nil {
		return nil, fmt.Errorf("decrypt key of %d bytes: %w", len(blob), ErrWrongMaster)
	}
	defer clear(text)
	f, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("decrypt key with the master key: %w", err)
	}
	return f, nil
}
