package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func TestParseSaysWhatIsWrong(t *testing.T) {
	none, scrypt, pbkdf2 := string(golden(t, "none.json")), string(golden(t, "scrypt.json")), string(golden(t, "pbkdf2.json"))
	for _, test := range []struct{ name, text, want string }{
		{"an empty file", "", "unexpected EOF"},
		{"a file cut in the middle", none[:100], "unexpected EOF"},
		{"another kind of JSON", "[1]", "not a JSON object"},
		{"two files in one", none + none, "text behind"},
		{"a file too long", none + strings.Repeat(" ", MaxFile), "at most 65536 are allowed"},
		{"one name twice", strings.Replace(none, `"kdf":null`, `"kdf":null,"data":""`, 1), `two members are named "data"`},
		{"another case of letters", strings.Replace(none, `"data"`, `"Data"`, 1), "data: is missing"},
		{"no date", strings.Replace(none, `"created"`, `"creation"`, 1), "created: is missing"},
		{"a date that is a number", strings.Replace(none, `"2026-11-21T01:24:14+00:00"`, "5", 1), "created: json: cannot unmarshal number"},
		{"a date without zone", strings.Replace(none, `14+00:00"`, `14"`, 1), "created: parsing time"},
		{"a part of a second", strings.Replace(none, `14+00:00"`, `14.5+00:00"`, 1), "created: has fractions"},
		{"base64 with a wrong letter", strings.Replace(none, "4+uJ", "4+u!", 1), "data: illegal base64"},
		{"base64 with stray bits", strings.Replace(none, "jfU=", "jfV=", 1), "data: has line breaks or stray bits"},
		{"a wrong bit in an open key", strings.Replace(none, "4+uJ", "4+uK", 1), "does not have the fingerprint"},
		{"a key one byte short", strings.Replace(none, "jfU=", "jQ==", 1), "data: a key of 31 bytes, want 32"},
		{"an open key under a lock", strings.Replace(pbkdf2, `"WIbX`, `"`, 1), "data: a locked key of 61 bytes, want 64"},
		{"a locked key in the open", `{"kdf":null,` + scrypt[strings.Index(scrypt, `"created"`):], "data: a key of 64 bytes, want 32"},
		{"a short fingerprint", strings.Replace(none, "bc:4e:", "", 1), "fingerprint: fingerprint"},
		{"a method from the future", strings.Replace(scrypt, "Scrypt", "Argon2", 1), `kdf: method "Argon2" is not known`},
		{"no method", strings.Replace(none, `"kdf":null`, `"kdf":{}`, 1), "kdf: names 0 methods"},
		{"two methods", strings.Replace(none, `"kdf":null`, `"kdf":{"Scrypt":{},"PBKDF2":{}}`, 1), "kdf: names 2 methods"},
		{"a method in words", strings.Replace(none, `"kdf":null`, `"kdf":"none"`, 1), "kdf: not a JSON object"},
		{"a salt that is missing", strings.Replace(scrypt, "salt", "pepper", 1), "kdf: Scrypt: salt: is missing"},
		{"n that is no power of two", strings.Replace(scrypt, "65536", "65535", 1), "n of Scrypt is 65535"},
		{"n of one", strings.Replace(scrypt, "65536", "1", 1), "n of Scrypt is 1"},
		{"p of zero", strings.Replace(scrypt, `"p":1`, `"p":0`, 1), "p is 0"},
		{"a negative r", strings.Replace(scrypt, `"r":8`, `"r":-8`, 1), "kdf: Scrypt: r: json: cannot unmarshal"},
		{"n for 1 GiB of memory", strings.Replace(scrypt, "65536", "1048576", 1), "too much work"},
		{"numbers whose product overflows", strings.Replace(scrypt, `65536,"r":8`, `4194304,"r":4398046511104`, 1), "too much work"},
		{"p for an hour", strings.Replace(scrypt, `"p":1`, `"p":10000`, 1), "too much work"},
		{"rounds for an hour", strings.Replace(pbkdf2, "65535", "18446744073709551615", 1), "18446744073709551615 rounds"},
		{"no rounds", strings.Replace(pbkdf2, "65535", "0", 1), "0 rounds of PBKDF2"},
	} {
		f, err := Parse([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "parse key file: ") {
			t.Errorf("%s: %v, error is %v, want one with %q", test.name, f, err, test.want)
		}
	}
}

func TestParseForgives(t *testing.T) {
	none := string(golden(t, "none.json"))
	for _, test := range []struct{ name, text string }{
		{"space and line breaks", " " + strings.ReplaceAll(none, ",", ",\r\n\t") + "\n"},
		{"a member from the future", strings.Replace(none, `{`, `{"colour":{"data":1},`, 1)},
		{"no kdf at all", strings.Replace(none, `"kdf":null,`, "", 1)},
		{"a hint of null", strings.Replace(none, `}`, `,"hint":null}`, 1)},
		{"UTC by its letter", strings.ReplaceAll(none, "+00:00", "Z")},
		{"letters of a fingerprint in upper case", strings.Replace(none, "bc:4e:", "BC:4E:", 1)},
	} {
		f, err := Parse([]byte(test.text))
		if err != nil || string(f.Bytes()) != none {
			t.Errorf("%s: %v, error is %v", test.name, f, err)
		}
	}
}

func TestOpenKeyWithAnotherFingerprintIsRefused(t *testing.T) {
	text := strings.Replace(string(golden(t, "none.json")), "bc:4e:", "bc:4f:", 1)
	_, err := Parse([]byte(text))
	var hint interface{ Hint() string }
	if !errors.Is(err, ErrFingerprint) || !errors.As(err, &hint) || hint.Hint() == "" {
		t.Errorf("error is %v", err)
	}
}

func TestFileWithoutFingerprintOpens(t *testing.T) {
	text := golden(t, "none.json")
	text = append(text[:bytes.Index(text, []byte(`,"fingerprint"`))], '}')
	f, err := Parse(text)
	if err != nil || f.Fingerprint != nil || !bytes.Equal(f.Bytes(), text) {
		t.Fatalf("%v, %v", f, err)
	}
	key, err := f.Unlock(nil)
	if want := goldenKeys(t)["none.json"].Fingerprint; err != nil || key.Fingerprint().String() != want {
		t.Errorf("opened %v, %v, want %s", key, err, want)
	}
	named, err := f.Unlocked(key, f.Modified)
	if err != nil || !bytes.Equal(named.Bytes(), golden(t, "none.json")) {
		t.Errorf("rewritten without its fingerprint as %s, %v", named.Bytes(), err)
	}
}

// anyFile draws a key file. Its lock is cheap, for nobody opens it.
func anyFile(t *rapid.T) *File {
	date := func(name string) time.Time {
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, name+" zone"))
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, name), 0).In(zone)
	}
	bytesOf := func(n int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
	f := &File{Created: date("created"), Modified: date("modified")}
	key := chunks.NewKey([chunks.KeySize]byte(bytesOf(chunks.KeySize, "key")))
	if rapid.Bool().Draw(t, "has fingerprint") {
		fingerprint := key.Fingerprint()
		f.Fingerprint = &fingerprint
	}
	switch KDF(rapid.IntRange(0, 2).Draw(t, "kdf")) {
	case None:
		f.key = key
		return f
	case PBKDF2:
		f.lock = &lock{PBKDF2: &pbkdf2Lock{rapid.Uint64Range(1, maxRounds).Draw(t, "rounds"), bytesOf(32, "salt")}}
	case Scrypt:
		f.lock = &lock{Scrypt: &scryptLock{1 << rapid.IntRange(1, 16).Draw(t, "n"), 8, 2, bytesOf(32, "salt")}}
	}
	f.sealed = bytesOf(sealedSize, "sealed")
	f.Hint = rapid.String().Draw(t, "hint")
	return f
}

func TestEveryFileIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFile(t)
		back, err := Parse(f.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", f.Bytes(), err)
		}
		if !bytes.Equal(back.Bytes(), f.Bytes()) || back.Hint != f.Hint || !back.Created.Equal(f.Created) {
			t.Fatalf("%s is read back as %s", f.Bytes(), back.Bytes())
		}
	})
}

func TestNothingPrintsAnOpenKey(t *testing.T) {
	f := goldenFile(t, "none.json")
	raw := f.key.Raw()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, value := range []any{f, *f, struct{ hidden File }{*f}, struct{ hidden *File }{f}} {
			shown := fmt.Sprintf(format, value)
			for _, secret := range []string{hex.EncodeToString(raw[:4]), fmt.Sprintf("%d %d %d", raw[0], raw[1], raw[2]), string(raw[:4]), "4+uJ"} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s of a %T prints the key: %s", format, value, shown)
				}
			}
		}
	}
}

// FuzzParseFile: what is accepted is written in a form that is accepted and
// means the same.
func FuzzParseFile(f *testing.F) {
	for name := range goldenKDF {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"kdf":{"Scrypt":{"n":2,"r":1,"p":1,"salt":""}},"created":"0000-01-01T00:00:00-23:59","modified":"9999-12-31T23:59:59Z","data":"","hint":"\u2028"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse(text)
		if err != nil {
			return
		}
		if file.lock != nil {
			if err := file.lock.check(); err != nil {
				t.Fatalf("accepted a lock that %v", err)
			}
		}
		again, err := Parse(file.Bytes())
		if err != nil {
			t.Fatalf("%s is not accepted: %v", file.Bytes(), err)
		}
		if !bytes.Equal(again.Bytes(), file.Bytes()) || !again.Modified.Equal(file.Modified) {
			t.Fatalf("%s is read back as %s", file.Bytes(), again.Bytes())
		}
	})
}
