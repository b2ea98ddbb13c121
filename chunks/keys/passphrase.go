package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Options say how a key is kept. The zero value is Scrypt without a hint.
type Options struct {
	KDF  KDF       // default: Scrypt
	Hint string    // printable, at most 64 characters, only beside a passphrase
	Now  time.Time // what the file gives as date; default: time.Now()
}

// check says whether a passphrase can be used with the options.
func (o Options) check(passphrase []byte) error {
	switch {
	case o.KDF > None:
		return fmt.Errorf("%v is not known", o.KDF)
	case o.KDF == None && o.Hint != "":
		return errHintAlone
	case o.KDF == None && len(passphrase) > 0:
		return errors.New("there is a passphrase, but no key derivation to use it")
	case o.KDF == None:
		return nil
	case len(passphrase) == 0:
		return ErrPassphraseNeeded
	case len(passphrase) < MinPassphrase:
		return ErrShortPassphrase
	}
	return checkHint(o.Hint)
}

// Create makes a new random key, locked with the passphrase unless opt.KDF is
// [None]. It fails with [ErrPassphraseNeeded] or [ErrShortPassphrase] if the
// passphrase is empty or too short. The passphrase stays the caller's.
func Create(passphrase []byte, opt Options) (*File, error) {
	var raw [chunks.KeySize]byte
	rand.Read(raw[:]) // never fails, see its documentation
	defer clear(raw[:])
	opt.Now = opt.now()
	f, err := keep(chunks.NewKey(raw), opt.Now, passphrase, opt)
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return f, nil
}

// keep makes the file of a key, locked as opt says.
func keep(key *chunks.Key, created time.Time, passphrase []byte, opt Options) (*File, error) {
	if err := opt.check(passphrase); err != nil {
		return nil, err
	}
	fingerprint := key.Fingerprint()
	f := &File{Created: created, Modified: opt.now(), Fingerprint: &fingerprint, Hint: opt.Hint}
	if opt.KDF == None {
		f.key = key
		return f, nil
	}
	f.lock = newLock(opt.KDF)
	raw := key.Raw()
	defer clear(raw[:])
	sealed := make([]byte, chunks.IVSize+chunks.TagSize, sealedSize+chunks.TagSize)
	iv := sealed[:chunks.IVSize]
	rand.Read(iv)
	sealed, tag := f.lock.derive(passphrase).Seal(sealed, iv, raw[:])
	copy(sealed[chunks.IVSize:], tag[:])
	f.sealed = sealed
	return f, nil
}

// now returns the date to write, to the second.
func (o Options) now() time.Time {
	t := o.Now
	if t.IsZero() {
		t = time.Now()
	}
	return t.Truncate(time.Second)
}

// Unlock returns the key. It asks for the passphrase only if there is one,
// which takes up to about a second that cannot be interrupted. It fails with
// [ErrPassphraseNeeded] if prompt is nil but needed, with [ErrWrongPassphrase]
// if the passphrase does not open the lock, and with [ErrFingerprint] if the
// key that was inside is not the one the file names.
func (f *File) Unlock(prompt Prompt) (*chunks.Key, error) {
	if f.lock == nil {
		return f.key, nil
	}
	passphrase, err := prompt.ask()
	if err != nil {
		return nil, fmt.Errorf("unlock %s: %w", f, err)
	}
	defer clear(passphrase)
	key, err := f.open(passphrase)
	if err != nil {
		return nil, fmt.Errorf("unlock %s: %w", f, err)
	}
	return key, nil
}

func (f *File) open(passphrase []byte) (*chunks.Key, error) {
	iv, tag, ciphertext := f.sealed[:chunks.IVSize], f.sealed[chunks.IVSize:][:chunks.TagSize], f.sealed[chunks.IVSize+chunks.TagSize:]
	raw, err := f.lock.derive(passphrase).Open(nil, iv, tag, ciphertext)
	if err != nil {
		return nil, ErrWrongPassphrase
	}
	defer clear(raw)
	key := chunks.NewKey([chunks.KeySize]byte(raw))
	return key, f.checkFingerprint(key)
}

// ChangePassphrase returns a file with the same key and date of creation,
// locked with another passphrase, or with none if opt.KDF is [None]; the hint
// is that of opt. The prompt asks for the old passphrase, if there is one. It
// fails as [File.Unlock] and [Create] do. The passphrase stays the caller's.
func (f *File) ChangePassphrase(prompt Prompt, passphrase []byte, opt Options) (*File, error) {
	if err := opt.check(passphrase); err != nil { // before anybody is asked for the old one
		return nil, fmt.Errorf("change passphrase of %s: %w", f, err)
	}
	key, err := f.Unlock(prompt)
	if err != nil {
		return nil, fmt.Errorf("change passphrase: %w", err)
	}
	return keep(key, f.Created, passphrase, opt)
}

// Unlocked returns the file of the same key without a passphrase and hint,
// modified now: what [EncryptWithMaster] encrypts. The key is the one that
// [File.Unlock] returned before, so that nobody is asked twice; it fails with
// [ErrFingerprint] if the file names another one.
func (f *File) Unlocked(key *chunks.Key, now time.Time) (*File, error) {
	if err := f.checkFingerprint(key); err != nil {
		return nil, fmt.Errorf("unlock %s: %w", f, err)
	}
	return keep(key, f.Created, nil, Options{KDF: None, Now: now})
}
