package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A bundle holds small files (manifests, index files of snapshots) in one
// object: zstd of, for each file in order of name, the length of the name, the
// name, the length of the content and the content; lengths are varints.
const maxBundle = 1 << 30 // bytes unpacked

// EncodeBundle packs files.
func EncodeBundle(files map[string][]byte) ([]byte, error) {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		b = binary.AppendUvarint(b, uint64(len(files[name])))
		b = append(b, files[name]...)
	}
	// A long window: index files of successive snapshots are nearly equal.
	enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil), nil
}

// DecodeBundle unpacks what EncodeBundle made.
func DecodeBundle(b []byte) (map[string][]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBundle), zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack bundle: %w", err)
	}
	files := map[string][]byte{}
	next := func() ([]byte, bool) {
		n, used := binary.Uvarint(plain)
		if used <= 0 || n > uint64(len(plain)-used) {
			return nil, false
		}
		part := plain[used : used+int(n)]
		plain = plain[used+int(n):]
		return part, true
	}
	for len(plain) > 0 {
		name, ok1 := next()
		content, ok2 := next()
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("the bundle is cut short")
		}
		files[string(name)] = bytes.Clone(content)
	}
	return files, nil
}
