// Package listing describes snapshots, and remembers the descriptions.
//
// An [Info] is what a list shows of one snapshot. Making it means reading a
// manifest, which for a hundred thousand of them takes seconds; so a [Cache]
// keeps them in one file, by group, for as long as the [Stamp] of the group's
// directory stays the same. Package catalog sees to it that whatever it
// changes in a snapshot changes that.
package listing

import (
	"cmp"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// Info describes one snapshot, in the JSON of PBS (protocol notes §1.6). Size
// is absent if it is not finished.
type Info struct {
	Namespace    naming.Namespace      `json:"ns,omitempty"`
	Type         naming.Type           `json:"backup-type"`
	ID           string                `json:"backup-id"`
	Time         int64                 `json:"backup-time"`
	Size         *uint64               `json:"size,omitempty"`
	Owner        string                `json:"owner,omitempty"`
	Protected    bool                  `json:"protected"`
	Comment      string                `json:"comment,omitempty"` // first line of the notes
	Fingerprint  string                `json:"fingerprint,omitempty"`
	Verification *manifest.VerifyState `json:"verification,omitempty"`
	Stats        *manifest.UploadStats `json:"chunk-upload-stats,omitempty"`
	Files        []File                `json:"files"`
}

// File is an archive or blob of a snapshot.
type File struct {
	Name      string             `json:"filename"`
	CryptMode manifest.CryptMode `json:"crypt-mode,omitempty"`
	Size      *uint64            `json:"size,omitempty"` // of the content, of the encoded blob
}

// Snapshot returns which snapshot it describes.
func (i Info) Snapshot() naming.Snapshot {
	return naming.Snapshot{Group: naming.Group{Type: i.Type, ID: i.ID}, Time: i.Time}
}

// Finished reports whether the snapshot has a manifest that can be read.
func (i Info) Finished() bool { return i.Size != nil }

// Describe describes a snapshot that has the manifest m, nil if it has none
// that can be read, of encoded bytes, and the files of these names.
func (i *Info) Describe(m *manifest.Manifest, encoded uint64, names []string) {
	i.Files = make([]File, 0, len(names))
	if m != nil {
		i.fromManifest(m, encoded)
	}
	listed := len(i.Files)
	for _, name := range names {
		if naming.CheckArchive(name) == nil && !has(i.Files[:listed], name) {
			i.Files = append(i.Files, File{Name: name})
		}
	}
}

func has(files []File, name string) bool {
	for k := range files {
		if files[k].Name == name {
			return true
		}
	}
	return false
}

func (i *Info) fromManifest(m *manifest.Manifest, encoded uint64) {
	total := encoded
	for _, f := range m.Files {
		total += f.Size
		i.Files = append(i.Files, File{f.Name, cmp.Or(f.CryptMode, manifest.None), &f.Size})
	}
	mode := manifest.None
	if m.Signed() {
		mode = manifest.SignOnly
	}
	i.Files = append(i.Files, File{manifest.Name, mode, &encoded})
	i.Size = &total
	i.Comment, _, _ = strings.Cut(m.Notes(), "\n")
	if f, ok := m.KeyFingerprint(); ok {
		i.Fingerprint = f.String()
	}
	if v, ok := m.VerifyState(); ok {
		i.Verification = &v
	}
	if u, ok := m.UploadStats(); ok {
		i.Stats = &u
	}
}
