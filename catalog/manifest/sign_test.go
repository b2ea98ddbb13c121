package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

var (
	ourKey   = chunks.NewKey([chunks.KeySize]byte{1})
	otherKey = chunks.NewKey([chunks.KeySize]byte{2})
)

// signedBy returns a manifest of one encrypted file, read back from its blob.
func signedBy(t *testing.T, key *chunks.Key) *Manifest {
	t.Helper()
	m := New(snapshot)
	if err := m.Add(File{"a.blob", 5, chunks.Sum([]byte("a")), Encrypt}); err != nil {
		t.Fatal(err)
	}
	if key != nil {
		if err := m.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	b, err := m.Blob()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = ParseBlob(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheck(t *testing.T) {
	strip := func(m *Manifest) { m.Signature = nil }
	anonymous := func(m *Manifest) { m.setUnprotected(fingerprintName, nil) }
	for _, tt := range []struct {
		about  string
		signer *chunks.Key
		change func(*Manifest)
		key    *chunks.Key
		want   error
		text   string
	}{
		{"the key that signed fits", ourKey, nil, ourKey, nil, ""},
		{"notes may change", ourKey, func(m *Manifest) { m.setUnprotected(notesName, "n") }, ourKey, nil, ""},
		{"no key", ourKey, nil, nil, ErrMissingKey, "missing key - manifest was created with key " + ourKey.Fingerprint().Short()},
		{"no key and no fingerprint", ourKey, anonymous, nil, ErrMissingKey, "missing key - manifest is signed"},
		{"another key", ourKey, nil, otherKey, ErrWrongKey, "wrong key - "},
		{"another key and no fingerprint", ourKey, anonymous, otherKey, ErrSignature, "signed with another key"},
		{"the fingerprint was put off against another", ourKey, func(m *Manifest) { m.setUnprotected(fingerprintName, otherKey.Fingerprint().String()) }, otherKey, ErrSignature, "was changed"},
		{"a fingerprint that is none counts as none", ourKey, func(m *Manifest) { m.setUnprotected(fingerprintName, "xyz") }, ourKey, nil, ""},
		{"the time was changed", ourKey, func(m *Manifest) { m.Time++ }, ourKey, ErrSignature, "was changed"},
		{"the ID was changed", ourKey, func(m *Manifest) { m.ID = "101" }, ourKey, ErrSignature, "was changed"},
		{"the type was changed", ourKey, func(m *Manifest) { m.Type = naming.CT }, ourKey, ErrSignature, "was changed"},
		{"a sum was changed", ourKey, func(m *Manifest) { m.Files[0].Csum[31] ^= 1 }, ourKey, ErrSignature, "was changed"},
		{"a size was changed", ourKey, func(m *Manifest) { m.Files[0].Size++ }, ourKey, ErrSignature, "was changed"},
		{"a crypt mode was changed", ourKey, func(m *Manifest) { m.Files[0].CryptMode = None }, ourKey, ErrSignature, "was changed"},
		{"a crypt mode was taken off", ourKey, func(m *Manifest) { m.Files[0].CryptMode = "" }, ourKey, ErrSignature, "was changed"},
		{"a file was taken off", ourKey, func(m *Manifest) { m.Files = nil }, ourKey, ErrSignature, "was changed"},
		{"an unknown member was put in", ourKey, func(m *Manifest) { m.unknown["x"] = true }, ourKey, ErrSignature, "was changed"},
		{"a null was put in", ourKey, func(m *Manifest) { m.unknown["x"] = nil }, ourKey, ErrSignature, "was changed"},
		{"the signature was changed", ourKey, func(m *Manifest) { m.Signature[0] ^= 1 }, ourKey, ErrSignature, "was changed"},
		{"the signature was taken off", ourKey, strip, ourKey, ErrUnsigned, "names a key but is not signed"},
		{"signature and fingerprint were taken off", nil, nil, ourKey, ErrUnsigned, "lists a.blob with crypt mode encrypt but is not signed"},
		{"without key and signature chunks will tell", nil, nil, nil, nil, ""},
		{"what no key was used for passes with any", nil, func(m *Manifest) { m.Files[0].CryptMode = None }, ourKey, nil, ""},
		{"what says nothing of keys passes with any", nil, func(m *Manifest) { m.Files[0].CryptMode = "" }, ourKey, nil, ""},
	} {
		t.Run(tt.about, func(t *testing.T) {
			m := signedBy(t, tt.signer)
			if tt.change != nil {
				tt.change(m)
			}
			err := m.Check(tt.key)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("error %v, want %v with %q", err, tt.want, tt.text)
			}
			if err == nil {
				return
			}
			var typed *KeyError
			if !errors.As(err, &typed) || typed.Hint() == "" || typed.Snapshot != m.Snapshot() {
				t.Errorf("error %#v has no hint, or another snapshot", err)
			}
		})
	}
}

func TestErrorsOfKeysAreThoseOfChunks(t *testing.T) {
	m := signedBy(t, ourKey)
	if err := m.Check(nil); !errors.Is(err, chunks.ErrNoKey) {
		t.Errorf("no key: %v", err)
	}
	if err := m.Check(otherKey); !errors.Is(err, chunks.ErrWrongKey) {
		t.Errorf("wrong key: %v", err)
	}
}

func TestCheckOfWhatIsNoManifest(t *testing.T) {
	m := signedBy(t, ourKey)
	m.ID = "../100"
	if err := m.Check(ourKey); !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v, want %v", err, ErrInvalid)
	}
}

func TestSign(t *testing.T) {
	m := signedBy(t, ourKey)
	if err := m.Add(File{Name: "b.blob"}); err != nil || m.Signed() {
		t.Errorf("with one file more the signature is still there, error %v", err)
	}
	if err := m.Sign(otherKey); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(otherKey); err != nil {
		t.Errorf("signed by another key: %v", err)
	}
	if err := m.Sign(nil); !errors.Is(err, chunks.ErrNoKey) {
		t.Errorf("signed without a key: %v", err)
	}
	m.unknown["x"] = []any{object{"y": nil}}
	was := *m.Signature
	if err := m.Sign(ourKey); !errors.Is(err, ErrInvalid) || *m.Signature != was {
		t.Errorf("signed with a null in it: %v", err)
	}
}

// Some clients write something else in place of a signature. PBS keeps that, and
// so do we; but it fits no key, and is not taken for the lack of one.
func TestForeignSignatureFitsNoKey(t *testing.T) {
	for _, foreign := range []string{"AA:22:66:21:27:8A:F9:06", "ab", strings.ToUpper(csum), "\u2028"} {
		m, err := Parse([]byte(text(file("a.blob", ""), `,"signature":"`+foreign+`"`)))
		if err != nil {
			t.Fatalf("%q: %v", foreign, err)
		}
		again, err := m.JSON()
		if err == nil {
			m, err = Parse(again)
		}
		if err != nil || !m.Signed() || !strings.Contains(string(again), `"signature": "`+foreign+`"`) {
			t.Fatalf("%q: written as %s, %v", foreign, again, err)
		}
		if err := m.Check(ourKey); !errors.Is(err, ErrSignature) {
			t.Errorf("%q with a key: %v, want %v", foreign, err, ErrSignature)
		}
		if err := m.Check(nil); !errors.Is(err, ErrMissingKey) {
			t.Errorf("%q without a key: %v, want %v", foreign, err, ErrMissingKey)
		}
		if err := m.Sign(ourKey); err != nil || m.Check(ourKey) != nil {
			t.Errorf("%q: signed in earnest: %v, %v", foreign, err, m.Check(ourKey))
		}
	}
}
