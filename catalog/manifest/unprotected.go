package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Members of the unprotected part that are known. Those with underscores are
// spelled so by PBS.
const (
	fingerprintName = "key-fingerprint"
	notesName       = "notes"
	verifyName      = "verify_state"
	statsName       = "chunk_upload_stats"
)

// VerifyState says how the last verification of a snapshot ended.
type VerifyState struct {
	State string `json:"state"` // "ok" or "failed"
	UPID  string `json:"upid"`  // the task that verified
}

// OK reports whether nothing was found to be damaged.
func (v VerifyState) OK() bool { return v.State == "ok" }

// UploadStats say what the upload of a snapshot amounted to.
type UploadStats struct {
	Count          uint64 `json:"count"`           // chunks
	Size           uint64 `json:"size"`            // bytes of their content
	CompressedSize uint64 `json:"compressed_size"` // bytes of what was sent
	Duplicates     uint64 `json:"duplicates"`      // chunks that the server had
}

// KeyFingerprint returns the fingerprint of the key that the backup was made
// with, and false if the manifest names none, or none that can be read.
func (m *Manifest) KeyFingerprint() (chunks.Fingerprint, bool) {
	text, _ := m.unprotected[fingerprintName].(string)
	f, err := chunks.ParseFingerprint(text)
	return f, err == nil
}

// Notes returns what somebody wrote about the snapshot, "" if nothing.
func (m *Manifest) Notes() string {
	notes, _ := m.unprotected[notesName].(string)
	return notes
}

// SetNotes changes the notes; "" removes them. It fails if they are not UTF-8.
func (m *Manifest) SetNotes(notes string) error {
	if !utf8.ValidString(notes) {
		return errors.New("set notes: the text is not UTF-8")
	}
	if notes == "" {
		m.setUnprotected(notesName, nil)
	} else {
		m.setUnprotected(notesName, notes)
	}
	return nil
}

// VerifyState returns how the last verification ended, and false if there was
// none.
func (m *Manifest) VerifyState() (VerifyState, bool) {
	v, ok := get[VerifyState](m, verifyName)
	return v, ok && v.State != ""
}

// SetVerifyState notes how a verification ended. It fails if the state is
// neither ok nor failed.
func (m *Manifest) SetVerifyState(v VerifyState) error {
	if v.State != "ok" && v.State != "failed" {
		return fmt.Errorf("set state of verification: it is %.40q, want ok or failed", v.State)
	}
	return m.SetUnprotected(verifyName, v)
}

// UploadStats returns what the upload amounted to, and false if nothing is
// known of it.
func (m *Manifest) UploadStats() (UploadStats, bool) {
	return get[UploadStats](m, statsName)
}

// SetUploadStats notes what the upload amounted to.
func (m *Manifest) SetUploadStats(u UploadStats) {
	if err := m.SetUnprotected(statsName, u); err != nil {
		panic("four numbers cannot be written as JSON: " + err.Error())
	}
}

// GetUnprotected returns a member of the unprotected part as compact JSON, nil
// if there is none.
func (m *Manifest) GetUnprotected(name string) json.RawMessage {
	v, ok := m.unprotected[name]
	if !ok {
		return nil
	}
	return appendCanonical(nil, v)
}

// SetUnprotected changes a member of the unprotected part to what v is in JSON;
// null removes it. It fails if v has no JSON, or its JSON no place in a
// manifest.
func (m *Manifest) SetUnprotected(name string, v any) error {
	text, err := json.Marshal(v)
	if err == nil && !utf8.ValidString(name) {
		err = errors.New("the name is not UTF-8")
	}
	if err != nil {
		return fmt.Errorf("set %.100q in a manifest: %w", name, err)
	}
	parsed, err := parseValue(string(text), 2) // below the manifest and its unprotected part
	if err != nil {
		return fmt.Errorf("set %.100q in a manifest: %w", name, err)
	}
	m.setUnprotected(name, parsed)
	return nil
}

func (m *Manifest) setUnprotected(name string, v any) {
	if m.unprotected == nil {
		m.unprotected = object{}
	}
	if m.unprotected[name] = v; v == nil {
		delete(m.unprotected, name)
	}
}

// get decodes a member, and returns false if it is not there or something else.
func get[T any](m *Manifest, name string) (v T, ok bool) {
	raw := m.GetUnprotected(name)
	if raw == nil || json.Unmarshal(raw, &v) != nil {
		return *new(T), false
	}
	return v, true
}
