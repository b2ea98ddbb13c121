package manifest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// MaxJSON is the length in bytes of the longest manifest, before compression.
const MaxJSON = 16 << 20

// ParseBlob reads the manifest of a snapshot. It fails with
// [chunks.ErrCorrupt] if the blob is damaged and with [ErrInvalid] if it holds
// no manifest, or is encrypted, which a manifest never is.
func ParseBlob(b chunks.Blob) (*Manifest, error) {
	kind, err := b.Kind()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if kind.IsEncrypted() {
		return nil, &damage{errors.New("it is encrypted")}
	}
	buf := chunks.GetBuffer(0) // a list reads many, one after the other
	defer buf.Free()
	text, err := b.Decode(buf.Bytes, nil)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	buf.Bytes = text
	return Parse(text)
}

// Parse reads a manifest. It fails with [ErrInvalid]. It does not look at the
// signature; [Manifest.Check] does.
func Parse(text []byte) (*Manifest, error) {
	m, err := parse(text)
	if err != nil {
		return nil, &damage{err}
	}
	return m, nil
}

// damage says what is wrong with a manifest that was read. It has a hint of
// its own, for those below it tell how to choose a better name, which is of no
// use to somebody whose disk is bad.
type damage struct{ err error }

func (d *damage) Error() string   { return ErrInvalid.Error() + ": " + d.err.Error() }
func (d *damage) Unwrap() []error { return []error{ErrInvalid, d.err} }

// Hint is printed on its own line below the error.
func (d *damage) Hint() string {
	return "the file was damaged or changed: restore from another copy of the snapshot"
}

func parse(text []byte) (*Manifest, error) {
	if len(text) > MaxJSON {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(text), MaxJSON)
	}
	v, err := parseValue(string(text), 0)
	if err != nil {
		return nil, err
	}
	top := takeObject(v)
	m := &Manifest{
		Type: naming.Type(top.text("backup-type")),
		ID:   top.text("backup-id"),
		Time: top.time("backup-time"),
	}
	m.Signature, m.foreign = top.signature("signature")
	files := top.list("files")
	m.unprotected = top.optionalObject("unprotected")
	m.unknown = top.members
	if top.err != nil {
		return nil, top.err
	}
	if err := m.Snapshot().Check(); err != nil {
		return nil, err
	}
	return m, m.parseFiles(files)
}

func (m *Manifest) parseFiles(list []any) error {
	seen := make(map[string]bool, len(list))
	m.Files = make([]File, 0, len(list))
	m.unknownFile = map[string]object{}
	for i, v := range list {
		o := takeObject(v)
		f := File{
			Name:      o.text("filename"),
			Size:      o.size("size"),
			Csum:      o.digest("csum"),
			CryptMode: o.cryptMode("crypt-mode"),
		}
		err := o.err
		if err == nil {
			err = f.check()
		}
		if err == nil && seen[f.Name] {
			err = errTwice
		}
		if err != nil {
			return fmt.Errorf("file %d, %.100q: %w", i, f.Name, err)
		}
		seen[f.Name] = true
		m.Files = append(m.Files, f)
		if len(o.members) > 0 {
			m.unknownFile[f.Name] = o.members
		}
	}
	return nil
}

// A taker takes known members out of an object; what remains is unknown. err is
// the first thing that went wrong.
type taker struct {
	members object
	err     error
}

func takeObject(v any) *taker {
	o, ok := v.(object)
	if !ok {
		return &taker{object{}, errors.New("not an object")}
	}
	return &taker{members: o}
}

func (t *taker) fail(name string, err error) {
	if t.err == nil && err != nil {
		t.err = fmt.Errorf("%s: %w", name, err)
	}
}

// take removes the member from those left and returns it.
func (t *taker) take(name string) any {
	v := t.members[name]
	delete(t.members, name)
	return v
}

var errMissing = errors.New("is missing, null or of another type")

func (t *taker) text(name string) string {
	s, ok := t.take(name).(string)
	if !ok {
		t.fail(name, errMissing)
	}
	return s
}

func (t *taker) number(name string) string {
	n, ok := t.take(name).(json.Number)
	if !ok {
		t.fail(name, errMissing)
		return "0"
	}
	return string(n)
}

// time and size read whole numbers that are written without an exponent.
func (t *taker) time(name string) int64 {
	text := t.number(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.fail(name, fmt.Errorf("is %.40s, want seconds since 1970", text))
	}
	return n
}

func (t *taker) size(name string) uint64 {
	text := t.number(name)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.fail(name, fmt.Errorf("is %.40s, want bytes", text))
	}
	return n
}

// digest refuses capitals, which would be written small and no longer be what
// was signed.
func (t *taker) digest(name string) chunks.Digest {
	s := t.text(name)
	d, err := chunks.ParseDigest(s)
	if err == nil && d.String() != s {
		err = errors.New("is not in small letters")
	}
	t.fail(name, err)
	return d
}

func (t *taker) cryptMode(name string) CryptMode {
	if _, ok := t.members[name]; !ok {
		return ""
	}
	c, err := ParseCryptMode(t.text(name))
	t.fail(name, err)
	return c
}

// maxForeign bounds in bytes what stands where a signature should.
const maxForeign = 1024

// signature returns a signature, or what stands there and is none.
func (t *taker) signature(name string) (sum *[SignatureSize]byte, foreign string) {
	if t.members[name] == nil {
		t.take(name)
		return nil, ""
	}
	s := t.text(name)
	raw, err := hex.DecodeString(s)
	switch {
	case len(s) > maxForeign || s == "":
		t.fail(name, fmt.Errorf("is %.80q, want %d small hexadecimal digits", s, 2*SignatureSize))
		return nil, ""
	case err != nil || len(raw) != SignatureSize || hex.EncodeToString(raw) != s:
		return nil, s
	}
	return (*[SignatureSize]byte)(raw), ""
}

func (t *taker) list(name string) []any {
	list, ok := t.take(name).([]any)
	if !ok {
		t.fail(name, errMissing)
	}
	return list
}

func (t *taker) optionalObject(name string) object {
	v := t.take(name)
	if v == nil {
		return object{}
	}
	o, ok := v.(object)
	if !ok {
		t.fail(name, errMissing)
	}
	return o
}
