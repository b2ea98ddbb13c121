package listing

import (
	"encoding/json"
	"strconv"
)

// AppendJSON appends what json.Marshal returns of i, in a fraction of the time:
// lists of a hundred thousand snapshots are printed while somebody waits.
func (i *Info) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	if i.Namespace != "" {
		b = append(appendString(append(b, `"ns":`...), string(i.Namespace)), ',')
	}
	b = appendString(append(b, `"backup-type":`...), string(i.Type))
	b = appendString(append(b, `,"backup-id":`...), i.ID)
	b = strconv.AppendInt(append(b, `,"backup-time":`...), i.Time, 10)
	b = appendSize(b, i.Size)
	b = appendOptional(b, `,"owner":`, i.Owner)
	b = strconv.AppendBool(append(b, `,"protected":`...), i.Protected)
	b = appendOptional(b, `,"comment":`, i.Comment)
	b = appendOptional(b, `,"fingerprint":`, i.Fingerprint)
	if v := i.Verification; v != nil {
		b = appendString(append(b, `,"verification":{"state":`...), v.State)
		b = append(appendString(append(b, `,"upid":`...), v.UPID), '}')
	}
	if u := i.Stats; u != nil {
		b = strconv.AppendUint(append(b, `,"chunk-upload-stats":{"count":`...), u.Count, 10)
		b = strconv.AppendUint(append(b, `,"size":`...), u.Size, 10)
		b = strconv.AppendUint(append(b, `,"compressed_size":`...), u.CompressedSize, 10)
		b = append(strconv.AppendUint(append(b, `,"duplicates":`...), u.Duplicates, 10), '}')
	}
	return append(appendFiles(append(b, `,"files":`...), i.Files), '}')
}

func appendFiles(b []byte, files []File) []byte {
	if files == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for k := range files {
		if k > 0 {
			b = append(b, ',')
		}
		f := &files[k]
		b = appendString(append(b, `{"filename":`...), f.Name)
		b = appendOptional(b, `,"crypt-mode":`, string(f.CryptMode))
		b = append(appendSize(b, f.Size), '}')
	}
	return append(b, ']')
}

func appendSize(b []byte, n *uint64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendUint(append(b, `,"size":`...), *n, 10)
}

func appendOptional(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, key...), s)
}

// appendString appends s as JSON text. What needs to be escaped is left to
// package json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always can be
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
