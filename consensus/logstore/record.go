package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// A record is one entry of the log, all numbers big endian:
//
//	version u8 = 1 | type u8 | term u64 | appended i64, Unix ns, 0: unknown |
//	length u32, data | length u32, extensions | CRC-32C u32 of the index as u64 and all of the above
const (
	recordVersion = 1
	recordHead    = 1 + 1 + 8 + 8
	recordLeast   = recordHead + 4 + 4 + 4
	recordMost    = 64 << 20 // bytes of data and extensions
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(l *raft.Log) ([]byte, error) {
	if n := len(l.Data) + len(l.Extensions); n > recordMost {
		return nil, fmt.Errorf("entry %d has %d bytes, want at most %d", l.Index, n, recordMost)
	}
	b := make([]byte, 0, recordLeast+len(l.Data)+len(l.Extensions))
	b = append(b, recordVersion, byte(l.Type))
	b = binary.BigEndian.AppendUint64(b, l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = appendBytes(b, l.Data)
	b = appendBytes(b, l.Extensions)
	return binary.BigEndian.AppendUint32(b, sum(l.Index, b)), nil
}

func decode(index uint64, b []byte, l *raft.Log) error {
	if len(b) < recordLeast {
		return fmt.Errorf("record of entry %d has %d bytes, want at least %d", index, len(b), recordLeast)
	}
	body, end := b[:len(b)-4], b[len(b)-4:]
	if want := binary.BigEndian.Uint32(end); sum(index, body) != want {
		return fmt.Errorf("sum of entry %d does not match", index)
	}
	if body[0] != recordVersion {
		return fmt.Errorf("record of entry %d has version %d, want %d", index, body[0], recordVersion)
	}
	at := int64(binary.BigEndian.Uint64(body[10:]))
	data, rest, err := cutBytes(body[recordHead:])
	if err != nil {
		return fmt.Errorf("record of entry %d: %w", index, err)
	}
	extensions, rest, err := cutBytes(rest)
	if err == nil && len(rest) != 0 {
		err = errors.New("it goes on behind its end")
	}
	if err != nil {
		return fmt.Errorf("record of entry %d: %w", index, err)
	}
	*l = raft.Log{
		Index: index, Type: raft.LogType(body[1]), Term: binary.BigEndian.Uint64(body[2:]),
		Data: append([]byte(nil), data...), Extensions: append([]byte(nil), extensions...),
	}
	if at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	return nil
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func cutBytes(b []byte) (v, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("it is too short")
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, fmt.Errorf("a field of %d bytes in the %d left", n, len(b))
	}
	return b[:n], b[n:], nil
}

func sum(index uint64, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key(index), castagnoli), castagnoli, body)
}
