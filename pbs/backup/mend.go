package backup

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// readManifest reads the manifest as the client sent it, after filling in
// checksums that are empty.
//
// A client in use writes none for qemu-server.conf.blob, beside the length of
// its content instead of that of the file, and does not look at what /finish answers (§13.13): refused, its users would believe for months
// that they have backups. The sum of what was sent is known here, and a
// manifest without a signature says nothing else that this could change. One
// that is signed is left alone, and refused.
func (s *Session) readManifest() (*manifest.Manifest, error) {
	m, err := manifest.ParseBlob(s.manifest)
	if err == nil {
		return m, nil
	}
	mended, filled := s.mend()
	if len(filled) == 0 {
		return nil, err
	}
	if m, err = manifest.ParseBlob(mended); err == nil {
		s.task.Warnf("the manifest has no checksum of %v: that of what was sent is filled in, with its size", filled)
	}
	return m, err
}

// maxManifest bounds what is decoded of a manifest, in bytes.
const maxManifest = 16 << 20

// mend returns the manifest with empty checksums filled in, and of which files.
func (s *Session) mend() (blob chunks.Blob, filled []string) {
	if n, ok := s.manifest.PlainLen(); ok && n > maxManifest {
		return nil, nil
	}
	text, err := s.manifest.Decode(nil, nil)
	if err != nil {
		return nil, nil
	}
	var top map[string]json.RawMessage
	var files []map[string]json.RawMessage
	if json.Unmarshal(text, &top) != nil || json.Unmarshal(top["files"], &files) != nil {
		return nil, nil
	}
	if signature := string(top["signature"]); signature != "" && signature != "null" {
		return nil, nil
	}
	for _, f := range files {
		var name string
		if string(f["csum"]) != `""` || json.Unmarshal(f["filename"], &name) != nil {
			continue
		}
		if size, sum, ok := s.writer.Sum(name); ok {
			f["csum"], f["size"] = json.RawMessage(fmt.Sprintf("%q", sum)), json.RawMessage(fmt.Sprint(size))
			filled = append(filled, name)
		}
	}
	if top["files"], err = json.Marshal(files); err != nil {
		return nil, nil
	}
	if text, err = json.Marshal(top); err != nil {
		return nil, nil
	}
	blob, err = chunks.Encode(nil, text, chunks.EncodeOptions{Compress: true})
	if err != nil {
		return nil, nil
	}
	return blob, filled
}
