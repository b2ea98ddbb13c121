// Package manifest reads, signs and writes index.json.blob, which says what a
// snapshot consists of.
//
// A [Manifest] lists the files of one backup with their sizes and sums; a
// snapshot without one is not finished. Whoever has the key that the backup
// was made with signs it ([Manifest.Sign]) and can later tell that nobody
// changed it ([Manifest.Check]). Only the unprotected part, notes and the state
// of verification, may change afterwards.
//
// The format is that of PBS (PBS protocol notes §5.6). Members that are unknown
// here survive a rewrite, down to the digits of their numbers, for a newer
// client may have signed them. Where a JSON text can mean two things to two
// readers it is refused: one of two members with one name, half a surrogate
// pair, a sum in capitals.
package manifest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// Name is the name of the manifest in its snapshot.
const Name = "index.json.blob"

// LogName is the name of the client's log, which no manifest lists.
const LogName = "client.log.blob"

// SignatureSize is the length of a signature in bytes (HMAC-SHA256).
const SignatureSize = 32

// ErrInvalid says that something is no manifest.
var ErrInvalid = errors.New("invalid manifest")

// CryptMode says what a key did to a file.
type CryptMode string

// The three modes. A file without any ("") has none.
const (
	None     CryptMode = "none"
	Encrypt  CryptMode = "encrypt"   // the chunks or the blob are encrypted
	SignOnly CryptMode = "sign-only" // only the manifest is signed
)

// ParseCryptMode reads "none", "encrypt" or "sign-only".
func ParseCryptMode(s string) (CryptMode, error) {
	switch c := CryptMode(s); c {
	case None, Encrypt, SignOnly:
		return c, nil
	}
	return "", fmt.Errorf("crypt mode %.40q is unknown, want none, encrypt or sign-only", s)
}

// A File is one file of a snapshot.
type File struct {
	Name      string        `json:"filename"`             // as the server keeps it: "root.pxar.didx"
	Size      uint64        `json:"size"`                 // in bytes: of the content of an index, of an encoded blob
	Csum      chunks.Digest `json:"csum"`                 // chunks.Index.Csum, or the SHA-256 of an encoded blob
	CryptMode CryptMode     `json:"crypt-mode,omitempty"` // "" counts as none
}

// A Manifest says what a snapshot consists of. Make one with [New] or [Parse].
// It is not safe for concurrent use.
type Manifest struct {
	Type  naming.Type
	ID    string
	Time  int64  // seconds since 1970
	Files []File // in the order of upload

	// Signature is that of Canonical; nil if the manifest is not signed.
	Signature *[SignatureSize]byte

	// foreign is what stands there instead and is no signature. Some clients
	// write such, and PBS keeps it; it fits no key.
	foreign     string
	unprotected object
	unknown     object
	unknownFile map[string]object // unknown members of files, by filename
}

// New returns an empty manifest of s.
func New(s naming.Snapshot) *Manifest {
	return &Manifest{Type: s.Type, ID: s.ID, Time: s.Time, unprotected: object{}}
}

// Snapshot returns which snapshot this is the manifest of.
func (m *Manifest) Snapshot() naming.Snapshot {
	return naming.Snapshot{Group: naming.Group{Type: m.Type, ID: m.ID}, Time: m.Time}
}

// File returns the file of that name.
func (m *Manifest) File(name string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// Add appends a file. It fails if there is one of that name, or its name or
// crypt mode is invalid. No mode is written as none. A signature no longer fits
// and is taken off.
func (m *Manifest) Add(f File) error {
	if f.CryptMode == "" {
		f.CryptMode = None
	}
	_, twice := m.File(f.Name)
	err := f.check()
	switch {
	case err != nil:
	case twice:
		err = errTwice
	case f.Name == LogName:
		err = errors.New("the log of a client is not part of its backup")
	default:
		m.Files, m.Signature, m.foreign = append(m.Files, f), nil, ""
		return nil
	}
	return fmt.Errorf("add %.100q to the manifest of %s: %w", f.Name, m.Snapshot(), err)
}

var errTwice = errors.New("it is listed already")

func (f File) check() error {
	if err := naming.CheckArchive(f.Name); err != nil {
		return err
	}
	if f.Name == Name {
		return errors.New("a manifest cannot list itself")
	}
	if f.CryptMode == "" {
		return nil
	}
	_, err := ParseCryptMode(string(f.CryptMode))
	return err
}
