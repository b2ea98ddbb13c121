// Package keys reads and writes the key files of proxmox-backup-client, so
// that either program opens what the other one wrote.
//
// A [File] holds the 32 bytes of a [chunks.Key], in the open or locked with a
// passphrase. A copy on paper ([Paper]) survives the disk; a copy encrypted
// for a master key ([EncryptWithMaster]) lies beside each backup, so that one
// RSA key in a safe opens every backup of a company whose key files are lost.
// The formats are those of PBS protocol notes §5.5, and files of the real
// client are the tests.
//
// # What stays in memory
//
// Passphrases that a prompt returned, derived keys and decrypted private keys
// are overwritten after use. That is a courtesy, not a promise: the standard
// library copies passphrases while it derives keys, the runtime may move
// stacks, and a [chunks.Key] lives until the garbage collector takes it. Who
// can read the memory of the process has the keys in use.
//
// # Who may read a key file
//
// [Save] creates files that only their owner may read. [Load] reads whatever
// it is given, as the real client does: key files in a group-readable place
// of a configuration system are common, and refusing to restore because of
// a file mode helps nobody.
package keys

import (
	"errors"
	"fmt"
)

// MinPassphrase is the length in bytes of the shortest passphrase that is
// accepted for something new. What exists opens with a shorter one.
const MinPassphrase = 5

// The ways in which opening a key fails. Match them with errors.Is.
var (
	ErrPassphraseNeeded error = &failure{
		"a passphrase is needed and there is none",
		"set PBS_ENCRYPTION_PASSWORD, or run the command on a terminal",
	}
	ErrWrongPassphrase error = &failure{
		"wrong passphrase",
		"the hint kept with the key may help; if the passphrase is right, the file is damaged: try another copy, or the one on paper",
	}
	ErrFingerprint error = &failure{
		"the key does not have the fingerprint that its file names",
		"the file was damaged or edited: use another copy, or the one on paper",
	}
	ErrShortPassphrase error = &failure{
		fmt.Sprintf("the passphrase has fewer than %d bytes", MinPassphrase),
		"choose a longer passphrase, or none at all with --kdf none",
	}
	ErrWrongMaster error = &failure{
		"the master key does not open it",
		"use the private key that belongs to the public key which the backup was made with",
	}
)

// errHintAlone is the refusal that the real client makes too.
var errHintAlone = errors.New("a hint without a passphrase says nothing")

// A failure is an error with a known cure.
type failure struct{ text, hint string }

func (f *failure) Error() string { return f.text }

// Hint is printed on its own line below the error.
func (f *failure) Hint() string { return f.hint }

// A Prompt asks for a passphrase. The slice it returns is overwritten after
// use. A nil Prompt means that there is nobody to ask.
type Prompt func() ([]byte, error)

// Passphrase is the Prompt that answers with text, each time with a new copy.
func Passphrase(text string) Prompt {
	return func() ([]byte, error) { return []byte(text), nil }
}

// ask calls p, which may be nil.
func (p Prompt) ask() ([]byte, error) {
	if p == nil {
		return nil, ErrPassphraseNeeded
	}
	passphrase, err := p()
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	return passphrase, nil
}
