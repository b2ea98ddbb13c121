package manifest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// signed returns what a signature covers: all but itself and the unprotected
// part.
func (m *Manifest) signed() object {
	files := make([]any, len(m.Files))
	for i, f := range m.Files {
		o := with(m.unknownFile[f.Name])
		o["filename"] = f.Name
		o["size"] = json.Number(strconv.FormatUint(f.Size, 10))
		o["csum"] = f.Csum.String()
		if f.CryptMode != "" {
			o["crypt-mode"] = string(f.CryptMode)
		}
		files[i] = o
	}
	o := with(m.unknown)
	o["backup-type"] = string(m.Type)
	o["backup-id"] = m.ID
	o["backup-time"] = json.Number(strconv.FormatInt(m.Time, 10))
	o["files"] = files
	return o
}

// with returns an object that has the members of unknown and is not it.
func with(unknown object) object {
	o := make(object, len(unknown)+6)
	maps.Copy(o, unknown)
	return o
}

// Canonical returns the JSON that is signed: without signature and unprotected
// part, members sorted, no white space (§5.6). A change of the unprotected part
// leaves it as it is. It fails with [ErrInvalid] if m has values that no
// manifest can have.
//
// PBS has no canonical form of null. Here it is written, so that any two
// manifests can be compared, but [Manifest.Sign] and [Manifest.Check] refuse it.
func (m *Manifest) Canonical() ([]byte, error) {
	return m.checked(appendCanonical(nil, m.signed()))
}

// JSON returns the manifest as PBS writes it, readable for people. It fails
// with [ErrInvalid] if m has values that no manifest can have.
func (m *Manifest) JSON() ([]byte, error) {
	o := m.signed()
	o["unprotected"] = m.unprotected
	o["signature"] = nil
	if m.Signature != nil {
		o["signature"] = hex.EncodeToString(m.Signature[:])
	} else if m.foreign != "" {
		o["signature"] = m.foreign
	}
	return m.checked(appendPretty(nil, o))
}

// checked returns text if it can be read back: nothing is written, or signed,
// that would be refused later.
func (m *Manifest) checked(text []byte) ([]byte, error) {
	if _, err := parse(text); err != nil {
		return nil, fmt.Errorf("write manifest of %.300q: %w: %w", m.Snapshot(), ErrInvalid, err)
	}
	return text, nil
}

// MarshalJSON returns what JSON does, for encoding/json.
func (m *Manifest) MarshalJSON() ([]byte, error) { return m.JSON() }

// Blob returns the manifest as the file index.json.blob, compressed and never
// encrypted.
func (m *Manifest) Blob() (chunks.Blob, error) {
	text, err := m.JSON()
	if err != nil {
		return nil, err
	}
	b, err := chunks.Encode(nil, text, chunks.EncodeOptions{Compress: true})
	if err != nil {
		return nil, fmt.Errorf("write manifest of %s: %w", m.Snapshot(), err)
	}
	return b, nil
}
