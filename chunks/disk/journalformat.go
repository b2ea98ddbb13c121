package disk

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// A journal file is a header and records, all little-endian:
//
//	header, 32 bytes   magic 8, version u32, zero u32, salt 8, sum u64
//	record, 24 bytes   length u32, check u32, synced u64, sum u64, then payload
//
// The header's sum is xxhash64 of the 24 bytes before it. A record's sum is
// xxhash64 of salt, position of the record in the file, length and synced
// (u64 each), and payload; its check is the lower half of the same sum without
// the payload, so that a search for records costs little at each byte. Salt
// and position make sure that neither a record of an earlier file nor one
// that lies inside a payload can pass for a record of this file.
//
// synced is how much of the file was durable when the record was written. It
// tells a torn tail from damage: behind a gap, a record that vouches for the
// gap proves that what is missing there was once safe. One that does not was
// on its way at the same time, and a disk writes in any order.
//
// A record with length markLength has no payload and is not replayed. It ends
// a file that was closed or rewritten, to vouch for the records before it.
const (
	journalMagic   = "HOLDJRNL"
	journalVersion = 1
	headerBytes    = 32
	recordBytes    = 24 // in front of each payload
	markLength     = 1<<32 - 1
)

// MaxRecord is the largest record of a [Journal] in bytes, which bounds what a
// reader allocates on the word of a damaged length.
const MaxRecord = 16 << 20

var le = binary.LittleEndian

// journalSalt makes the records of one file differ from those of any other.
type journalSalt [8]byte

func newSalt() (s journalSalt) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// header returns the beginning of a file of salt s.
func (s journalSalt) header() []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, journalMagic...)
	b = le.AppendUint32(b, journalVersion)
	b = le.AppendUint32(b, 0)
	b = append(b, s[:]...)
	return le.AppendUint64(b, xxhash.Sum64(b))
}

// parseJournalHeader returns the salt in b. A version that we do not know is
// no damage.
func parseJournalHeader(name string, b []byte) (s journalSalt, err error) {
	if string(b[:8]) != journalMagic {
		return s, &JournalError{name, 0, errors.New("the magic number is missing")}
	}
	if le.Uint64(b[24:]) != xxhash.Sum64(b[:24]) {
		return s, &JournalError{name, 0, errors.New("the header does not match its sum")}
	}
	if v := le.Uint32(b[8:]); v != journalVersion {
		return s, &newerJournal{name, v}
	}
	return journalSalt(b[16:]), nil
}

// A recordHead is what lies in front of a payload.
type recordHead struct {
	length uint32
	synced int64
	sum    uint64
}

func (h recordHead) isMark() bool { return h.length == markLength }

// payload returns the number of bytes that follow.
func (h recordHead) payload() int64 {
	if h.isMark() {
		return 0
	}
	return int64(h.length)
}

// sums returns both sums of the record at pos.
func (s journalSalt) sums(pos int64, length uint32, synced int64, payload []byte) (check uint32, sum uint64) {
	var b [32]byte
	copy(b[:], s[:])
	le.PutUint64(b[8:], uint64(pos))
	le.PutUint64(b[16:], uint64(length))
	le.PutUint64(b[24:], uint64(synced))
	check = uint32(xxhash.Sum64(b[:]))
	if len(payload) == 0 {
		return check, xxhash.Sum64(b[:])
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(b[:]) // never fails
	_, _ = d.Write(payload)
	return check, d.Sum64()
}

// putHead fills in the first recordBytes of b, whose payload follows.
func (s journalSalt) putHead(b []byte, pos int64, length uint32, synced int64, payload []byte) {
	check, sum := s.sums(pos, length, synced, payload)
	le.PutUint32(b, length)
	le.PutUint32(b[4:], check)
	le.PutUint64(b[8:], uint64(synced))
	le.PutUint64(b[16:], sum)
}

// parseHead returns the head at pos if it is one: the check holds, and the
// numbers make sense.
func (s journalSalt) parseHead(b []byte, pos int64) (recordHead, bool) {
	h := recordHead{le.Uint32(b), int64(le.Uint64(b[8:])), le.Uint64(b[16:])}
	if h.length > MaxRecord && !h.isMark() || h.synced < 0 || h.synced > pos {
		return h, false
	}
	check, _ := s.sums(pos, h.length, h.synced, nil)
	return h, check == le.Uint32(b[4:])
}

// matches tells whether payload is the one that h was made for.
func (s journalSalt) matches(h recordHead, pos int64, payload []byte) bool {
	_, sum := s.sums(pos, h.length, h.synced, payload)
	return sum == h.sum
}

// A JournalError says where a journal lost what was durable once. Nothing in
// the file was changed.
type JournalError struct {
	Name   string
	Offset int64 // of the first record that is not whole
	Err    error
}

func (e *JournalError) Error() string {
	return fmt.Sprintf("read journal %s: damage at offset %d: %v", e.Name, e.Offset, e.Err)
}

func (e *JournalError) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *JournalError) Hint() string {
	return "check the disk and its cables; the file was left as it is, so copy it before anything is repaired"
}

// newerJournal refuses a file of a format that came after this program.
type newerJournal struct {
	name    string
	version uint32
}

func (e *newerJournal) Error() string {
	return fmt.Sprintf("read journal %s: format %d, this program knows %d", e.name, e.version, journalVersion)
}

// Hint is printed on its own line below the error.
func (e *newerJournal) Hint() string { return "upgrade holdfast on this machine" }
