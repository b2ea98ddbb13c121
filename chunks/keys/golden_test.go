package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// golden reads a file that the real client (3.2.4) wrote.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A goldenKey is what another implementation found in a golden key file.
type goldenKey struct {
	Passphrase  string `json:"passphrase"`
	EncKey      string `json:"enc_key"`
	Fingerprint string `json:"fingerprint"`
}

func goldenKeys(t testing.TB) map[string]goldenKey {
	t.Helper()
	var all map[string]goldenKey
	if err := json.Unmarshal(golden(t, "expected.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// goldenFile parses a golden key file.
func goldenFile(t testing.TB, name string) *File {
	t.Helper()
	f, err := Parse(golden(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// goldenKDF lists the golden key files.
var goldenKDF = map[string]KDF{
	"none.json": None, "none2.json": None, "imported.json": None,
	"scrypt.json": Scrypt, "pbkdf2.json": PBKDF2, "changed.json": PBKDF2,
}

func TestGoldenFilesAreWrittenBackByteForByte(t *testing.T) {
	for name, kdf := range goldenKDF {
		f := goldenFile(t, name)
		if f.KDF() != kdf {
			t.Errorf("%s: key derivation is %v, want %v", name, f.KDF(), kdf)
		}
		if want := golden(t, name); !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%s is written back as\n%s\nwant\n%s", name, f.Bytes(), want)
		}
	}
}

func TestGoldenFilesOpenWithTheirPassphrases(t *testing.T) {
	opened := 0
	for name, want := range goldenKeys(t) {
		if want.EncKey == "" {
			continue // the master key
		}
		opened++
		f := goldenFile(t, name)
		key, err := f.Unlock(Passphrase(want.Passphrase))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if raw := key.Raw(); hex.EncodeToString(raw[:]) != want.EncKey || key.Fingerprint().String() != want.Fingerprint {
			t.Errorf("%s: opened %x with fingerprint %s, want %s with %s", name, raw, key.Fingerprint(), want.EncKey, want.Fingerprint)
		}
		if f.KDF() == None {
			continue
		}
		if _, err := f.Unlock(Passphrase(want.Passphrase + "x")); !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("%s: error with a wrong passphrase is %v", name, err)
		}
	}
	if opened != 4 {
		t.Errorf("opened %d golden files, want 4", opened)
	}
}

func TestShowIsThatOfTheRealClient(t *testing.T) {
	for _, name := range []string{"none", "scrypt", "pbkdf2"} {
		got, err := json.Marshal(goldenFile(t, name+".json").Show(name + ".json"))
		want := bytes.TrimSpace(golden(t, name+".show.json"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s shows\n%s, %v\nwant\n%s", name, got, err, want)
		}
	}
}

func TestShowLeavesOutWhatAnOldFileDoesNotHave(t *testing.T) {
	f := goldenFile(t, "none.json")
	f.Fingerprint = nil
	got, err := json.Marshal(f.Show("k"))
	if want := `{"created":1795224254,"kdf":"none","modified":1795224254,"path":"\"k\""}`; err != nil || string(got) != want {
		t.Errorf("shows %s, %v, want %s", got, err, want)
	}
}

// goldenPassphrase returns the passphrase of the golden master key.
func goldenPassphrase(t testing.TB) string { return goldenKeys(t)["master-private.pem"].Passphrase }

func TestGoldenMasterKeyOpensTheGoldenBlob(t *testing.T) {
	master, err := ParseMaster(golden(t, "master-private.pem"), Passphrase(goldenPassphrase(t)))
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParseMasterPublic(golden(t, "master-public.pem"))
	if err != nil || !master.PublicKey.Equal(public) {
		t.Errorf("the public key is another one, %v", err)
	}
	if text, err := MarshalMasterPublic(public); err != nil || !bytes.Equal(text, golden(t, "master-public.pem")) {
		t.Errorf("the public key is written back as\n%s, %v", text, err)
	}
	f, err := DecryptWithMaster(golden(t, "rsa-encrypted.key"), master)
	if err != nil {
		t.Fatal(err)
	}
	original, imported := goldenFile(t, "none.json"), goldenFile(t, "imported.json")
	for _, other := range []*File{original, imported} {
		if *f.Fingerprint != *other.Fingerprint || f.key.Raw() != other.key.Raw() || !f.Created.Equal(other.Created) {
			t.Errorf("decrypted %s, want the key of %s", f.Bytes(), other.Bytes())
		}
	}
	// The client writes the time of the backup as date of the change.
	if got := stamp(f.Modified); f.KDF() != None || got != "2026-11-21T01:25:39+00:00" {
		t.Errorf("modified %s under %v", got, f.KDF())
	}
	// What `key import-with-master-key --kdf none` made of it, we make too.
	again, err := f.ChangePassphrase(nil, nil, Options{KDF: None, Now: imported.Modified})
	if err != nil || !bytes.Equal(again.Bytes(), imported.Bytes()) {
		t.Errorf("imported as\n%s, %v\nwant\n%s", again.Bytes(), err, imported.Bytes())
	}
}

// TestChangedIsTheSameKey: the client's own change of passphrase keeps key
// and date of creation, and so does ours.
func TestChangedIsTheSameKey(t *testing.T) {
	scrypt, changed := goldenFile(t, "scrypt.json"), goldenFile(t, "changed.json")
	if *scrypt.Fingerprint != *changed.Fingerprint || changed.Hint != "changed" {
		t.Fatalf("changed.json is %s", changed.Bytes())
	}
	back, err := changed.ChangePassphrase(Passphrase("changed-pass-4"), []byte("another pass"), Options{KDF: PBKDF2, Hint: "a < b & c", Now: scrypt.Modified})
	if err != nil {
		t.Fatal(err)
	}
	var key *chunks.Key
	if key, err = back.Unlock(Passphrase("another pass")); err != nil {
		t.Fatal(err)
	}
	if key.Fingerprint() != *scrypt.Fingerprint || !back.Created.Equal(changed.Created) || !back.Modified.Equal(scrypt.Modified) {
		t.Errorf("changed to %s", back.Bytes())
	}
	if !bytes.Contains(back.Bytes(), []byte(`"hint":"a < b & c"`)) {
		t.Errorf("the hint is written as %s", back.Bytes())
	}
	if _, err := back.Unlock(Passphrase("changed-pass-4")); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("error with the old passphrase is %v", err)
	}
}
