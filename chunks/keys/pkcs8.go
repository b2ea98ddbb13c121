package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/pbkdf2"
)

// The object identifiers of PBES2 as OpenSSL writes it (RFC 8018 appendix C).
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// masterRounds is what we spend on the passphrase of a master key, about
// 0.1 s; OpenSSL's 2048 rounds are guessed fast. Readers take the number from
// the file.
const masterRounds = 600_000

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958 §3) with the parameters
// of PBES2 (RFC 8018 appendix A.4) spelled out.
type encryptedKey struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				ID     asn1.ObjectIdentifier
				Params pbkdf2Params
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

type pbkdf2Params struct {
	Salt      []byte
	Rounds    int
	KeyLength int                      `asn1:"optional"`
	PRF       pkix.AlgorithmIdentifier `asn1:"optional"` // absent: HMAC with SHA-1
}

// parseEncryptedKey reads DER and refuses what decrypt cannot do. It does no
// work that a hostile file could make large.
func parseEncryptedKey(der []byte) (*encryptedKey, error) {
	var k encryptedKey
	rest, err := asn1.Unmarshal(der, &k)
	if err != nil {
		return nil, fmt.Errorf("not a PBES2 private key with PBKDF2: %w", err)
	}
	scheme := &k.Algorithm.Params
	for _, is := range []struct {
		what      string
		got, want asn1.ObjectIdentifier
	}{
		{"encryption scheme", k.Algorithm.ID, oidPBES2},
		{"key derivation", scheme.KDF.ID, oidPBKDF2},
		{"pseudo-random function", scheme.KDF.Params.PRF.Algorithm, oidHMACSHA256},
		{"cipher", scheme.Cipher.ID, oidAES256CBC},
	} {
		if !is.got.Equal(is.want) {
			return nil, fmt.Errorf("%s is %v, only %v is supported", is.what, is.got, is.want)
		}
	}
	switch n := scheme.KDF.Params.KeyLength; {
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes stand behind the private key", len(rest))
	case n != 0 && n != 32:
		return nil, fmt.Errorf("derived key of %d bytes, want 32", n)
	}
	switch n := scheme.KDF.Params.Rounds; {
	case n < 1 || n > maxRounds:
		return nil, fmt.Errorf("%d rounds of PBKDF2, want 1 to %d", n, maxRounds)
	case len(scheme.Cipher.IV) != aes.BlockSize:
		return nil, fmt.Errorf("nonce of %d bytes, want %d", len(scheme.Cipher.IV), aes.BlockSize)
	case len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0:
		return nil, fmt.Errorf("%d bytes of ciphertext are not whole blocks", len(k.Data))
	}
	return &k, nil
}

// block returns the cipher under the key that the passphrase gives.
func (k *encryptedKey) block(passphrase []byte) cipher.Block {
	p := k.Algorithm.Params.KDF.Params
	key := pbkdf2.Key(passphrase, p.Salt, p.Rounds, 32, sha256.New)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("AES refuses a key of 32 bytes: " + err.Error())
	}
	return block
}

// errPadding is the sign of a wrong passphrase, as is DER that does not parse.
var errPadding = errors.New("padding is wrong")

// decrypt returns the DER of the private key inside.
func (k *encryptedKey) decrypt(passphrase []byte) ([]byte, error) {
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(k.block(passphrase), k.Algorithm.Params.Cipher.IV).CryptBlocks(plain, k.Data)
	n := int(plain[len(plain)-1]) // PKCS #7: n bytes of value n
	if n < 1 || n > aes.BlockSize {
		return nil, errPadding
	}
	for _, b := range plain[len(plain)-n:] {
		if int(b) != n {
			return nil, errPadding
		}
	}
	return plain[:len(plain)-n], nil
}

// encryptKey returns the DER of a private key, itself given as DER, under a
// passphrase. It writes what OpenSSL 3 and so the real client writes.
func encryptKey(der, passphrase []byte, rounds int) ([]byte, error) {
	var k encryptedKey
	k.Algorithm.ID = oidPBES2
	scheme := &k.Algorithm.Params
	scheme.KDF.ID = oidPBKDF2
	scheme.KDF.Params = pbkdf2Params{
		Salt:   make([]byte, 16),
		Rounds: rounds,
		PRF:    pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue},
	}
	scheme.Cipher.ID = oidAES256CBC
	scheme.Cipher.IV = make([]byte, aes.BlockSize)
	rand.Read(scheme.KDF.Params.Salt)
	rand.Read(scheme.Cipher.IV)

	n := aes.BlockSize - len(der)%aes.BlockSize
	k.Data = make([]byte, len(der)+n)
	copy(k.Data, der)
	for i := len(der); i < len(k.Data); i++ {
		k.Data[i] = byte(n)
	}
	cipher.NewCBCEncrypter(k.block(passphrase), scheme.Cipher.IV).CryptBlocks(k.Data, k.Data)
	return asn1.Marshal(k)
}
