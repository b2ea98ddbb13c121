package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openKey opens a key file of the real client and checks that it holds what an
// independent program found in it.
func openKey(t testing.TB, name string) *chunks.Key {
	t.Helper()
	var expected map[string]struct {
		Passphrase  string             `json:"passphrase"`
		EncKey      string             `json:"enc_key"`
		Fingerprint chunks.Fingerprint `json:"fingerprint"`
	}
	if err := json.Unmarshal(readFile(t, "keys/expected.json"), &expected); err != nil {
		t.Fatal(err)
	}
	f, err := keys.Parse(readFile(t, "keys/"+name))
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.Unlock(func() ([]byte, error) { return []byte(expected[name].Passphrase), nil })
	if err != nil {
		t.Fatal(err)
	}
	raw := key.Raw()
	if want, ok := expected[name]; ok && (hex.EncodeToString(raw[:]) != want.EncKey || key.Fingerprint() != want.Fingerprint) {
		t.Fatalf("%s holds another key than expected", name)
	}
	return key
}

// goldenNames returns the names of all golden manifests.
func goldenNames(t testing.TB) []string {
	t.Helper()
	blobs, err := filepath.Glob("testdata/*.blob")
	if err != nil || len(blobs) != 15 {
		t.Fatalf("%d golden manifests, error %v, want 15", len(blobs), err)
	}
	for i, b := range blobs {
		blobs[i] = strings.TrimSuffix(filepath.Base(b), ".blob")
	}
	return blobs
}

// TestGoldenManifestsSurviveARewrite to the byte, and with a changed
// unprotected part down to what is signed.
func TestGoldenManifestsSurviveARewrite(t *testing.T) {
	for _, name := range goldenNames(t) {
		t.Run(name, func(t *testing.T) {
			text := readFile(t, name+".json")
			m, err := ParseBlob(readFile(t, name+".blob"))
			if err != nil {
				t.Fatal(err)
			}
			written, err := m.JSON()
			if err != nil || !bytes.Equal(written, text) {
				t.Fatalf("written as\n%s\nerror %v, want\n%s", written, err, text)
			}
			before, err := m.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(m.SetNotes("changed"), m.SetVerifyState(VerifyState{"ok", "UPID:x"})); err != nil {
				t.Fatal(err)
			}
			m.SetUploadStats(UploadStats{1, 2, 3, 4})
			blob, err := m.Blob()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseBlob(blob)
			if err != nil {
				t.Fatal(err)
			}
			after, err := again.Canonical()
			if err != nil || !bytes.Equal(before, after) {
				t.Fatalf("what is signed was\n%s\nand is, error %v,\n%s", before, err, after)
			}
			if again.Notes() != "changed" {
				t.Errorf("the notes are %q", again.Notes())
			}
		})
	}
}

func TestGoldenManifestsHaveTheSignatureOfTheirKey(t *testing.T) {
	key, other := openKey(t, "none.json"), openKey(t, "none2.json")
	for _, name := range goldenNames(t) {
		t.Run(name, func(t *testing.T) {
			m, err := ParseBlob(readFile(t, name+".blob"))
			if err != nil {
				t.Fatal(err)
			}
			signed := strings.Contains(name, "encrypted") || strings.Contains(name, "sign-only")
			if m.Signed() != signed {
				t.Fatalf("is signed: %v", m.Signed())
			}
			var want, wantOther, wantNone error
			if signed {
				wantOther, wantNone = ErrWrongKey, ErrMissingKey
			}
			if name == "server-encrypted" {
				want = ErrWrongKey
			}
			if err := m.Check(key); !errors.Is(err, want) {
				t.Errorf("with the key: %v, want %v", err, want)
			}
			if err := m.Check(other); !errors.Is(err, wantOther) {
				t.Errorf("with another key: %v, want %v", err, wantOther)
			}
			if err := m.Check(nil); !errors.Is(err, wantNone) {
				t.Errorf("without a key: %v, want %v", err, wantNone)
			}
			if want == nil && signed {
				before, was := *m.Signature, len(m.Files)
				if err := m.Sign(key); err != nil || *m.Signature != before || len(m.Files) != was {
					t.Errorf("signed again it has another signature, error %v", err)
				}
			}
		})
	}
}

// TestSealedKeyFilesSign: a manifest that was signed with a key is checked with
// the same key out of any of its files.
func TestSealedKeyFilesSign(t *testing.T) {
	m := New(naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "a"}, Time: 1})
	for _, tt := range []struct{ signer, checker string }{
		{"scrypt.json", "changed.json"},
		{"pbkdf2.json", "pbkdf2.json"},
		{"none.json", "none.json"},
	} {
		t.Run(tt.signer, func(t *testing.T) {
			if err := m.Sign(openKey(t, tt.signer)); err != nil {
				t.Fatal(err)
			}
			if err := m.Check(openKey(t, tt.checker)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestServerManifestHasNotesAndStatistics(t *testing.T) {
	m, err := ParseBlob(readFile(t, "server-host.blob"))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Notes(); got != "first line\nsecond line" {
		t.Errorf("notes %q", got)
	}
	if got, ok := m.UploadStats(); !ok || got != (UploadStats{5, 8720769, 230285, 0}) {
		t.Errorf("statistics %+v, %v", got, ok)
	}
	if got, ok := m.VerifyState(); ok {
		t.Errorf("verified: %+v", got)
	}
	if got, want := m.Snapshot().String(), "host/g1/2023-11-14T22:13:20Z"; got != want {
		t.Errorf("snapshot %s, want %s", got, want)
	}
	f, ok := m.File("etc.conf.blob")
	if !ok || f.Size != 64 || f.CryptMode != None || f.Csum.Short() != "58cb10a5" {
		t.Errorf("file %+v, %v", f, ok)
	}
}

// TestSignatureVector is that of PBS protocol notes §5.6: a key derived with
// scrypt from the passphrase "test", and a manifest of two files.
func TestSignatureVector(t *testing.T) {
	raw, err := hex.DecodeString("28cdb1a3bef39396c3860e00d448fe7a0efd8244486ab6feb30457681d31597e")
	if err != nil {
		t.Fatal(err)
	}
	key := chunks.NewKey([chunks.KeySize]byte(raw))
	m := New(naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "elsa"}, Time: 1593179765})
	for i, f := range []File{
		{Name: "test1.img.fidx", CryptMode: Encrypt, Size: 200},
		{Name: "abc.blob", CryptMode: None, Size: 200},
	} {
		f.Csum = chunks.Digest(bytes.Repeat([]byte{byte(i + 1)}, chunks.DigestSize))
		if err := m.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	text, err := m.Canonical()
	want := `{"backup-id":"elsa","backup-time":1593179765,"backup-type":"host","files":[` +
		`{"crypt-mode":"encrypt","csum":"` + strings.Repeat("01", 32) + `","filename":"test1.img.fidx","size":200},` +
		`{"crypt-mode":"none","csum":"` + strings.Repeat("02", 32) + `","filename":"abc.blob","size":200}]}`
	if err != nil || string(text) != want {
		t.Errorf("canonical form, error %v:\n%s\nwant\n%s", err, text, want)
	}
	if err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(m.Signature[:]), "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if f, ok := m.KeyFingerprint(); !ok || f != key.Fingerprint() {
		t.Errorf("fingerprint %s, %v, want %s", f, ok, key.Fingerprint())
	}
}
