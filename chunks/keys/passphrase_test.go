package keys

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

var someDay = time.Date(2024, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600))

func TestCreate(t *testing.T) {
	for _, test := range []struct {
		kdf              KDF
		passphrase, hint string
		start            string
	}{
		{None, "", "", `{"kdf":null,"created":"2024-01-02T03:04:05+01:00","modified":"2024-01-02T03:04:05+01:00","data":"`},
		{PBKDF2, "12345", "one to five", `{"kdf":{"PBKDF2":{"iter":65535,"salt":"`},
		{Scrypt, "пароль ☃", "", `{"kdf":{"Scrypt":{"n":65536,"r":8,"p":1,"salt":"`},
	} {
		f, err := Create([]byte(test.passphrase), Options{KDF: test.kdf, Hint: test.hint, Now: someDay})
		if err != nil {
			t.Errorf("%v: %v", test.kdf, err)
			continue
		}
		if !strings.HasPrefix(string(f.Bytes()), test.start) || f.Hint != test.hint {
			t.Errorf("%v: wrote %s", test.kdf, f.Bytes())
		}
		read, err := Parse(f.Bytes())
		if err != nil {
			t.Errorf("%v: %v", test.kdf, err)
			continue
		}
		key, err := read.Unlock(Passphrase(test.passphrase))
		if err != nil || key.Fingerprint() != *f.Fingerprint || !read.Created.Equal(someDay.Truncate(time.Second)) {
			t.Errorf("%v: opened %v, %v, want %s", test.kdf, key, err, f.Fingerprint)
		}
	}
}

func TestCreateMakesAnotherKeyAndSaltEachTime(t *testing.T) {
	a, errA := Create(nil, Options{KDF: None})
	b, errB := Create(nil, Options{KDF: None})
	if errA != nil || errB != nil || *a.Fingerprint == *b.Fingerprint {
		t.Errorf("made %s and %s, %v, %v", a.Fingerprint, b.Fingerprint, errA, errB)
	}
	if since := time.Since(a.Created); since < 0 || since > time.Hour {
		t.Errorf("created %v, %v ago", a.Created, since)
	}
	if bytes.Equal(newLock(Scrypt).Scrypt.Salt, newLock(Scrypt).Scrypt.Salt) {
		t.Errorf("two locks have the same salt")
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, test := range []struct {
		name       string
		passphrase string
		opt        Options
		want       any // an error, or a part of its text
	}{
		{"no passphrase for scrypt", "", Options{}, ErrPassphraseNeeded},
		{"a passphrase of four bytes", "1234", Options{KDF: PBKDF2}, ErrShortPassphrase},
		{"a hint without a passphrase", "", Options{KDF: None, Hint: "x"}, errHintAlone},
		{"a passphrase that nothing uses", "12345", Options{KDF: None}, "no key derivation"},
		{"a hint of two lines", "12345", Options{Hint: "a\nb"}, `contains '\n'`},
		{"a hint that is a terminal's command", "12345", Options{Hint: "\x1b[2J"}, `contains '\x1b'`},
		{"a hint that is not UTF-8", "12345", Options{Hint: "\xff"}, "not UTF-8"},
		{"a hint of 65 characters", "12345", Options{Hint: strings.Repeat("é", 65)}, "65 characters, at most 64"},
		{"a method from the future", "12345", Options{KDF: 9}, "kdf 9 is not known"},
	} {
		f, err := Create([]byte(test.passphrase), test.opt)
		switch want := test.want.(type) {
		case error:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, error is %v, want %v", test.name, f, err, want)
			}
		case string:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, error is %v, want one with %q", test.name, f, err, want)
			}
		}
	}
}

func TestUnlockTellsItsFailuresApart(t *testing.T) {
	f := goldenFile(t, "pbkdf2.json")
	if _, err := f.Unlock(nil); !errors.Is(err, ErrPassphraseNeeded) {
		t.Errorf("error without anybody to ask is %v", err)
	}
	if _, err := f.Unlock(Passphrase("")); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("error with an empty passphrase is %v", err)
	}
	gone := errors.New("the terminal is gone")
	if _, err := f.Unlock(func() ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("error of the prompt becomes %v", err)
	}
	other := *goldenFile(t, "none.json").Fingerprint
	f.Fingerprint = &other
	key, err := f.Unlock(Passphrase("golden-pass-2"))
	if !errors.Is(err, ErrFingerprint) || key != nil {
		t.Errorf("with another fingerprint opened %v, error is %v", key, err)
	}
	f = goldenFile(t, "pbkdf2.json")
	f.sealed[40] ^= 1
	if _, err := f.Unlock(Passphrase("golden-pass-2")); !errors.Is(err, ErrWrongPassphrase) || !strings.Contains(err.Error(), "key 6a:7d:a9:5e:49:a0:6e:8e") {
		t.Errorf("error of a damaged key is %v", err)
	}
}

func TestUnlockOverwritesThePassphrase(t *testing.T) {
	asked := 0
	passphrase := []byte("golden-pass-2")
	prompt := func() ([]byte, error) { asked++; return passphrase, nil }
	if _, err := goldenFile(t, "none.json").Unlock(prompt); err != nil || asked != 0 {
		t.Errorf("an open key asks %d times, %v", asked, err)
	}
	if _, err := goldenFile(t, "pbkdf2.json").Unlock(prompt); err != nil || asked != 1 {
		t.Errorf("a locked key asks %d times, %v", asked, err)
	}
	if !bytes.Equal(passphrase, make([]byte, len(passphrase))) {
		t.Errorf("the passphrase is still %q", passphrase)
	}
}

func TestChangePassphraseChecksTheNewOneFirst(t *testing.T) {
	asked := false
	prompt := func() ([]byte, error) { asked = true; return []byte("golden-pass-2"), nil }
	_, err := goldenFile(t, "pbkdf2.json").ChangePassphrase(prompt, []byte("1234"), Options{})
	if !errors.Is(err, ErrShortPassphrase) || asked {
		t.Errorf("asked %t, error is %v", asked, err)
	}
	_, err = goldenFile(t, "pbkdf2.json").ChangePassphrase(Passphrase("wrong"), nil, Options{KDF: None})
	if !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("error with a wrong passphrase is %v", err)
	}
}

func TestUnlockedRefusesAnotherKey(t *testing.T) {
	f := goldenFile(t, "scrypt.json")
	other := goldenFile(t, "none.json").key
	if open, err := f.Unlocked(other, someDay); !errors.Is(err, ErrFingerprint) {
		t.Errorf("%v, error is %v", open, err)
	}
}

func TestParseKDF(t *testing.T) {
	for _, kdf := range []KDF{Scrypt, PBKDF2, None} {
		if got, err := ParseKDF(kdf.String()); err != nil || got != kdf {
			t.Errorf("%v is read back as %v, %v", kdf, got, err)
		}
	}
	if _, err := ParseKDF("Scrypt"); err == nil || !strings.Contains(err.Error(), "want scrypt, pbkdf2 or none") {
		t.Errorf("error is %v", err)
	}
}
