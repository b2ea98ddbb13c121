package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
)

// testMaster is a small RSA key: tests do not keep secrets.
var testMaster = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2560) // 2048 hold no key file
	if err != nil {
		panic(err)
	}
	return key
})

func TestCreatedMasterKeyIsReadBack(t *testing.T) {
	master, err := CreateMaster()
	if err != nil {
		t.Fatal(err)
	}
	if master.N.BitLen() != 4096 {
		t.Errorf("created %d bits", master.N.BitLen())
	}
	text, err := MarshalMaster(master, []byte("five+"))
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseMaster(text, Passphrase("five+"))
	if err != nil || !back.Equal(master) {
		t.Errorf("read back another key, %v", err)
	}
	if _, err := MarshalMaster(master, []byte("four")); !errors.Is(err, ErrShortPassphrase) {
		t.Errorf("error of a short passphrase is %v", err)
	}
}

// TestLockedMasterHasTheShapeOfTheRealOne: but for the length of salt, rounds
// and data the two files are the same ASN.1.
func TestLockedMasterHasTheShapeOfTheRealOne(t *testing.T) {
	ours, err := marshalMaster(testMaster(), []byte("pass"), 2048)
	if err != nil {
		t.Fatal(err)
	}
	var shapes [2]encryptedKey
	for i, text := range [][]byte{ours, golden(t, "master-private.pem")} {
		block, err := privateBlock(text)
		if err != nil || block.Type != pemEncrypted {
			t.Fatalf("%v, %v", block, err)
		}
		k, err := parseEncryptedKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		shapes[i] = *k
	}
	a, b := shapes[0].Algorithm, shapes[1].Algorithm
	if !a.ID.Equal(b.ID) || !a.Params.KDF.ID.Equal(b.Params.KDF.ID) || !a.Params.Cipher.ID.Equal(b.Params.Cipher.ID) {
		t.Errorf("ours is %v, the real one %v", a, b)
	}
	p, q := a.Params.KDF.Params, b.Params.KDF.Params
	if p.Rounds != q.Rounds || p.KeyLength != q.KeyLength || !p.PRF.Algorithm.Equal(q.PRF.Algorithm) || !bytes.Equal(p.PRF.Parameters.FullBytes, q.PRF.Parameters.FullBytes) {
		t.Errorf("ours is %v, the real one %v", p, q)
	}
}

func TestParseMasterTellsItsFailuresApart(t *testing.T) {
	locked := golden(t, "master-private.pem")
	if _, err := ParseMaster(locked, nil); !errors.Is(err, ErrPassphraseNeeded) {
		t.Errorf("error without anybody to ask is %v", err)
	}
	for _, wrong := range []string{"", "master-pass-4"} {
		if _, err := ParseMaster(locked, Passphrase(wrong)); !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("error with the passphrase %q is %v", wrong, err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(testMaster())
	if err != nil {
		t.Fatal(err)
	}
	open := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
	if key, err := ParseMaster(open, nil); err != nil || !key.Equal(testMaster()) {
		t.Errorf("a key in the open is read as another one, %v", err)
	}
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "no PEM block found"},
		{"a public key", golden(t, "master-public.pem"), `PEM block is a "PUBLIC KEY"`},
		{"the old format", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY"}), "old format"},
		{"an open block of rubbish", pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: []byte("x")}), "asn1"},
		{"a locked block of rubbish", pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: []byte("x")}), "not a PBES2 private key"},
		{"a large block", pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: make([]byte, maxMasterDER+1)}), "at most 8192"},
		{"a long text", make([]byte, maxPaper+1), "at most 1048576"},
		{"a key that is not RSA", ecKey(t), "key is a *ecdsa.PrivateKey, want RSA"},
		{"a small RSA key", smallKey(t), "RSA key of 1024 bits, want 2048 to 8192"},
	} {
		if _, err := ParseMaster(test.text, Passphrase("x")); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", test.name, err, test.want)
		}
	}
}

func ecKey(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return openPEM(t, key, err)
}

func smallKey(t *testing.T) []byte {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	return openPEM(t, key, err)
}

func openPEM(t *testing.T, key any, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
}

func TestParseMasterPublicRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "no PEM block found"},
		{"the private key", golden(t, "master-private.pem"), `PEM block is a "ENCRYPTED PRIVATE KEY", want "PUBLIC KEY"`},
		{"rubbish", pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: []byte("x")}), "asn1"},
	} {
		if _, err := ParseMasterPublic(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", test.name, err, test.want)
		}
	}
}

func TestMasterOpensWhatWasEncryptedForIt(t *testing.T) {
	locked := goldenFile(t, "pbkdf2.json")
	if _, err := EncryptWithMaster(locked, &testMaster().PublicKey); err == nil || !strings.Contains(err.Error(), "locked with a passphrase") {
		t.Errorf("error of a locked key is %v", err)
	}
	key, err := locked.Unlock(Passphrase("golden-pass-2"))
	if err != nil {
		t.Fatal(err)
	}
	open, err := locked.Unlocked(key, someDay)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := EncryptWithMaster(open, &testMaster().PublicKey)
	if err != nil || len(blob) != testMaster().Size() {
		t.Fatalf("%d bytes, %v", len(blob), err)
	}
	back, err := DecryptWithMaster(blob, testMaster())
	if err != nil || !bytes.Equal(back.Bytes(), open.Bytes()) || back.key.Fingerprint() != key.Fingerprint() || !back.Created.Equal(locked.Created) {
		t.Errorf("decrypted %v, %v, want %s", back, err, open.Bytes())
	}
	blob[len(blob)/2] ^= 1
	for name, bad := range map[string][]byte{"damaged": blob, "cut": blob[1:], "empty": nil} {
		if _, err := DecryptWithMaster(bad, testMaster()); !errors.Is(err, ErrWrongMaster) {
			t.Errorf("error of a blob that is %s is %v", name, err)
		}
	}
}

func TestBlobWithoutAKeyFileIsRefused(t *testing.T) {
	//lint:ignore SA1019 the format demands it
	blob, err := rsa.EncryptPKCS1v15(rand.Reader, &testMaster().PublicKey, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecryptWithMaster(blob, testMaster()); err == nil || !strings.Contains(err.Error(), "created: is missing") {
		t.Errorf("error is %v", err)
	}
}
