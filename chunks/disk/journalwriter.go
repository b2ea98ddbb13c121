package disk

import (
	"fmt"
	"iter"
)

// appendRecord adds record to b behind a head that has only the length.
func appendRecord(b, record []byte) []byte {
	var head [recordBytes]byte
	le.PutUint32(head[:], uint32(len(record)))
	return append(append(b, head[:]...), record...)
}

// seal fills in the heads of the records in b, which will lie at pos in a file
// of which synced bytes are durable.
func (s journalSalt) seal(b []byte, pos, synced int64) {
	for len(b) > 0 {
		length := le.Uint32(b)
		size := recordBytes + int64(length)
		s.putHead(b, pos, length, synced, b[recordBytes:size])
		b, pos = b[size:], pos+size
	}
}

// mark returns a record that vouches for all before it.
func (s journalSalt) mark(pos int64) []byte {
	b := make([]byte, recordBytes)
	s.putHead(b, pos, markLength, pos, nil)
	return b
}

// tooLarge is an error if record is.
func tooLarge(name string, record []byte) error {
	if len(record) <= MaxRecord {
		return nil
	}
	return fmt.Errorf("append to journal %s: record of %d bytes, want at most %d", name, len(record), MaxRecord)
}

// writeRecords fills the empty file f and returns its length. Each part may
// vouch for those before it, because nobody sees the file until all of it is
// durable.
func writeRecords(f File, name string, salt journalSalt, records iter.Seq[[]byte]) (end int64, err error) {
	const chunk = 256 << 10 // per write; a larger record is written at once
	write := func(b []byte) error {
		_, err := f.WriteAt(b, end)
		end += int64(len(b))
		return err
	}
	if err := write(salt.header()); err != nil {
		return end, err
	}
	var buf []byte
	for r := range records {
		if err := tooLarge(name, r); err != nil {
			return end, err
		}
		if buf = appendRecord(buf, r); len(buf) < chunk {
			continue
		}
		salt.seal(buf, end, end)
		if err := write(buf); err != nil {
			return end, err
		}
		buf = buf[:0]
	}
	salt.seal(buf, end, end)
	if after := end + int64(len(buf)); after > headerBytes {
		buf = append(buf, salt.mark(after)...)
	}
	err = write(buf)
	return end, err
}
