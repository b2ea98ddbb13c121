package keys

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// lockedKey returns a locked key that change has altered, as DER.
func lockedKey(t testing.TB, change func(*encryptedKey)) []byte {
	t.Helper()
	der, err := encryptKey([]byte("the private key"), []byte("pass"), 10)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseEncryptedKey(der)
	if err != nil {
		t.Fatal(err)
	}
	change(k)
	if der, err = asn1.Marshal(*k); err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseEncryptedKeyRefuses(t *testing.T) {
	other := asn1.ObjectIdentifier{1, 2, 3}
	for _, test := range []struct {
		name   string
		change func(*encryptedKey)
		want   string
	}{
		{"another scheme", func(k *encryptedKey) { k.Algorithm.ID = other }, "encryption scheme is 1.2.3"},
		{"another derivation", func(k *encryptedKey) { k.Algorithm.Params.KDF.ID = other }, "key derivation is 1.2.3"},
		{"another function", func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.PRF.Algorithm = other }, "pseudo-random function is 1.2.3"},
		{"another cipher", func(k *encryptedKey) { k.Algorithm.Params.Cipher.ID = other }, "cipher is 1.2.3"},
		{"a derived key of 16 bytes", func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.KeyLength = 16 }, "derived key of 16 bytes"},
		{"no rounds", func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Rounds = 0 }, "0 rounds"},
		{"negative rounds", func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Rounds = -1 }, "-1 rounds"},
		{"rounds for an hour", func(k *encryptedKey) { k.Algorithm.Params.KDF.Params.Rounds = 1 << 40 }, "1099511627776 rounds"},
		{"a short nonce", func(k *encryptedKey) { k.Algorithm.Params.Cipher.IV = make([]byte, 8) }, "nonce of 8 bytes"},
		{"half a block", func(k *encryptedKey) { k.Data = make([]byte, 8) }, "8 bytes of ciphertext"},
		{"no data", func(k *encryptedKey) { k.Data = nil }, "0 bytes of ciphertext"},
	} {
		if _, err := parseEncryptedKey(lockedKey(t, test.change)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", test.name, err, test.want)
		}
	}
	der := lockedKey(t, func(*encryptedKey) {})
	if _, err := parseEncryptedKey(append(der, 0)); err == nil || !strings.Contains(err.Error(), "1 bytes stand behind") {
		t.Errorf("error of a byte too many is %v", err)
	}
}

func TestEncryptedKeyOfAnyLengthIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "plain")
		passphrase := rapid.SliceOf(rapid.Byte()).Draw(t, "passphrase")
		der, err := encryptKey(plain, passphrase, rapid.IntRange(1, 5).Draw(t, "rounds"))
		if err != nil {
			t.Fatal(err)
		}
		k, err := parseEncryptedKey(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.decrypt(passphrase); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("decrypted %x, %v, want %x", got, err, plain)
		}
		if got, err := k.decrypt(append(passphrase, 'x')); err == nil && bytes.Equal(got, plain) {
			t.Fatalf("a wrong passphrase gives %x too", got)
		}
	})
}

// FuzzMasterPEM: whatever the text is, reading it fails or gives a key that is
// the same when it is written and read again; and no text makes it work long.
func FuzzMasterPEM(f *testing.F) {
	f.Add(golden(f, "master-private.pem"))
	f.Add(golden(f, "master-public.pem"))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: lockedKey(f, func(*encryptedKey) {})}))
	if text, err := marshalMaster(testMaster(), []byte("pass"), 1); err == nil {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if public, err := ParseMasterPublic(text); err == nil {
			again, err := MarshalMasterPublic(public)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := ParseMasterPublic(again); err != nil || !back.Equal(public) {
				t.Fatalf("%s is read back as another key, %v", again, err)
			}
		}
		if costly(text) {
			return
		}
		private, err := ParseMaster(text, Passphrase("pass"))
		if err != nil {
			return
		}
		again, err := marshalMaster(private, []byte("pass"), 1)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseMaster(again, Passphrase("pass")); err != nil || !back.Equal(private) {
			t.Fatalf("%s is read back as another key, %v", again, err)
		}
	})
}

// costly reports whether a fuzzer has no time for the rounds that text wants.
func costly(text []byte) bool {
	block, err := privateBlock(text)
	if err != nil || block.Type != pemEncrypted {
		return false
	}
	k, err := parseEncryptedKey(block.Bytes)
	return err == nil && k.Algorithm.Params.KDF.Params.Rounds > 5000
}
