package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// MaxFile is the size in bytes of the largest key file that is read. The
// real client's have fewer than 600.
const MaxFile = 64 << 10

// sealedSize is the length of a locked key: nonce, tag, ciphertext.
const sealedSize = chunks.IVSize + chunks.TagSize + chunks.KeySize

// A File is the content of a key file. Make one with [Create], [Parse] or
// [ParsePaper].
type File struct {
	// Created and Modified are kept to the second, in the zone they were
	// written in.
	Created, Modified time.Time

	// Fingerprint names the key without unlocking it. It is nil in files that
	// were made before fingerprints were.
	Fingerprint *chunks.Fingerprint

	// Hint reminds its owner of the passphrase; anybody can read it. In a file
	// of strangers it can be any text: quote it before a terminal sees it.
	Hint string

	lock   *lock       // nil if there is no passphrase
	key    *chunks.Key // only if lock is nil
	sealed []byte      // only if lock is not nil
}

// KDF says how the key is locked.
func (f *File) KDF() KDF { return f.lock.kdf() }

// String names the key for messages and shows nothing of it.
func (f *File) String() string {
	if f.Fingerprint == nil {
		return "key without fingerprint"
	}
	return "key " + f.Fingerprint.Short()
}

// Parse reads a key file as the real client writes it. It refuses what is
// damaged or asks for more work than [Scrypt] and [PBKDF2] are worth, and
// fails with [ErrFingerprint] if an open key has another fingerprint than the
// file says. Members it does not know are ignored, as the real client does.
func Parse(text []byte) (*File, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("parse key file: %d bytes, at most %d are allowed", len(text), MaxFile)
	}
	f, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse key file: %w", err)
	}
	return f, nil
}

func parse(text []byte) (*File, error) {
	o, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	f := &File{Created: o.time("created"), Modified: o.time("modified")}
	if o.has("kdf") {
		f.lock, err = parseLock(o.members["kdf"])
		o.fail("kdf", err)
	}
	if o.has("fingerprint") {
		parsed, err := chunks.ParseFingerprint(o.text("fingerprint"))
		o.fail("fingerprint", err)
		f.Fingerprint = &parsed
	}
	if o.has("hint") {
		f.Hint = o.text("hint")
	}
	data := o.base64("data")
	if o.err != nil {
		return nil, o.err
	}
	return f, f.setData(data)
}

// time reads a date as in RFC 3339, without fractions of a second.
func (o *object) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, o.text(name))
	if err == nil && t.Nanosecond() != 0 {
		err = errors.New("has fractions of a second")
	}
	o.fail(name, err)
	return t
}

// setData takes the member "data", which is the key or, under a lock, the
// sealed key.
func (f *File) setData(data []byte) error {
	if f.lock != nil {
		if len(data) != sealedSize {
			return fmt.Errorf("data: a locked key of %d bytes, want %d", len(data), sealedSize)
		}
		f.sealed = data
		return nil
	}
	defer clear(data)
	if len(data) != chunks.KeySize {
		return fmt.Errorf("data: a key of %d bytes, want %d", len(data), chunks.KeySize)
	}
	f.key = chunks.NewKey([chunks.KeySize]byte(data))
	return f.checkFingerprint(f.key)
}

func (f *File) checkFingerprint(key *chunks.Key) error {
	if f.Fingerprint != nil && *f.Fingerprint != key.Fingerprint() {
		return fmt.Errorf("%w: it is %s, not %s", ErrFingerprint, key.Fingerprint().Short(), f.Fingerprint.Short())
	}
	return nil
}

// Bytes returns the file as the real client writes it: one line of JSON
// without a line break. It holds the key itself if there is no passphrase.
func (f *File) Bytes() []byte {
	data := f.sealed
	if f.lock == nil {
		raw := f.key.Raw()
		defer clear(raw[:])
		data = raw[:]
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		KDF         *lock               `json:"kdf"`
		Created     string              `json:"created"`
		Modified    string              `json:"modified"`
		Data        []byte              `json:"data"`
		Fingerprint *chunks.Fingerprint `json:"fingerprint,omitempty"`
		Hint        string              `json:"hint,omitempty"`
	}{f.lock, stamp(f.Created), stamp(f.Modified), data, f.Fingerprint, f.Hint})
	if err != nil {
		panic("a key file does not encode: " + err.Error())
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// stamp writes a date as the real client does, which has no "Z" for UTC.
func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05-07:00") }

// Info is what `key show` tells about a key file. Its JSON is that of the
// real client; dates are Unix seconds.
type Info struct {
	Created     int64  `json:"created"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Hint        string `json:"hint,omitempty"`
	KDF         string `json:"kdf"`
	Modified    int64  `json:"modified"`
	Path        string `json:"path"` // in quotes, as the real client prints it
}

// Show describes the file that was read from path. It needs no passphrase.
func (f *File) Show(path string) Info {
	info := Info{
		Created:  f.Created.Unix(),
		Hint:     f.Hint,
		KDF:      f.KDF().String(),
		Modified: f.Modified.Unix(),
		Path:     strconv.Quote(path),
	}
	if f.Fingerprint != nil {
		info.Fingerprint = f.Fingerprint.String()
	}
	return info
}

// checkHint says whether hint can be printed on one line.
func checkHint(hint string) error {
	const limit = 64 // characters, which fit on a line
	if !utf8.ValidString(hint) {
		return errors.New("the hint is not UTF-8")
	}
	if n := utf8.RuneCountInString(hint); n > limit {
		return fmt.Errorf("the hint has %d characters, at most %d are allowed", n, limit)
	}
	for _, r := range hint {
		if !strconv.IsPrint(r) {
			return fmt.Errorf("the hint contains %q, which does not print", r)
		}
	}
	return nil
}
