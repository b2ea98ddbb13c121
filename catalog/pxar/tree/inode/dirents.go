//go:build linux

package inode

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Dirent is a name in a directory, and the d_type that the kernel told with
// it: DT_UNKNOWN on file systems that do not keep it.
type Dirent struct {
	Name string
	Kind uint8
}

// direntHead is where the name begins in struct linux_dirent64 (getdents(2)):
// behind u64 inode, i64 offset, u16 length, u8 type. The numbers are in the
// order of the machine.
const direntHead = 19

// getdentsBuffer is what one call of getdents may return. Larger does not pay:
// the kernel fills 32 KiB at a time on most file systems.
const getdentsBuffer = 64 << 10

// ReadNames lists a directory, sorted by the bytes of the names. More than
// limit names fail with [ErrTooManyEntries]. When a read fails, the names got
// so far come with the error.
func ReadNames(fd int, limit int, stop func() error) ([]Dirent, error) {
	buf := make([]byte, getdentsBuffer)
	var all []Dirent
	var failed error
	for {
		if err := stop(); err != nil {
			return nil, err
		}
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			failed = err
			break
		}
		all = appendNames(all, buf[:n])
		if len(all) > limit {
			return nil, ErrTooManyEntries
		}
	}
	slices.SortFunc(all, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
	return all, failed
}

// appendNames adds the entries in buf, as the kernel wrote them, except for
// the directory itself and the one above. The names share one string.
func appendNames(all []Dirent, buf []byte) []Dirent {
	text := string(buf)
	for len(buf) > direntHead {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size <= direntHead || size > len(buf) {
			break // cannot happen, but a list that does not end would be worse
		}
		end := bytes.IndexByte(buf[direntHead:size], 0)
		if end < 0 {
			end = size - direntHead
		}
		start := len(text) - len(buf) + direntHead
		if name := text[start : start+end]; name != "." && name != ".." && name != "" {
			all = append(all, Dirent{name, buf[18]})
		}
		buf = buf[size:]
	}
	return all
}
