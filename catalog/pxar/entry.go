package pxar

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Kind says what an [Entry] is.
type Kind uint8

// The kinds of entries. DirEnd comes from a [Decoder] only, behind the last
// entry of a directory.
const (
	Dir Kind = iota + 1
	File
	Symlink
	Hardlink
	BlockDevice
	CharDevice
	Fifo
	Socket
	DirEnd
)

var kindNames = [...]string{"unknown", "directory", "file", "symbolic link", "hard link",
	"block device", "character device", "fifo", "socket", "end of directory"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// IsDevice reports whether k is one of the two kinds of devices.
func (k Kind) IsDevice() bool { return k == BlockDevice || k == CharDevice }

// kindOf returns the kind that the type bits of a mode name, or 0.
func kindOf(mode uint32) Kind {
	switch mode & modeType {
	case modeDir:
		return Dir
	case modeRegular:
		return File
	case modeSymlink:
		return Symlink
	case modeBlock:
		return BlockDevice
	case modeChar:
		return CharDevice
	case modeFifo:
		return Fifo
	case modeSocket:
		return Socket
	}
	return 0
}

// A Position is the offset of an entry in its archive, in bytes: where the
// item with its name begins, and 0 for the root. In split archives it counts
// in the metadata stream. It is what tells entries apart, as inode numbers do.
type Position int64

// A Device names a device as major and minor number.
type Device struct{ Major, Minor uint64 }

// An Entry is one name in an archive and what it stands for.
type Entry struct {
	Name     string // last component; "" for the root
	Kind     Kind
	Metadata        // zero for Hardlink and DirEnd
	Size     int64  // of a File, in bytes
	Target   string // of a Symlink, verbatim; of a Hardlink, a path below the root
	Device   Device // of devices
	Depth    int    // 0 for the root
	Position Position
	Link     Position // of a Hardlink: the entry of the file it is another name of

	parent  *folder
	content content
}

// A content is where the bytes of a file are.
type content struct {
	at    int64 // first byte; in the payload stream the header in front of it
	split bool  // in the payload stream
}

// A folder is an entry's way up to the root, which is nil.
type folder struct {
	name   string
	parent *folder
}

// Path returns the path of the entry from the root, without leading slash: ""
// for the root, "a/b" below it. It is put together by each call.
func (e *Entry) Path() string { return e.parent.join(e.Name) }

func (f *folder) join(name string) string {
	parts := []string{name}
	for ; f != nil; f = f.parent {
		parts = append(parts, f.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// CheckName tells why name cannot be that of an entry: it has 1 to [MaxName]
// bytes without slash and NUL, and is not "." or "..".
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("name is empty")
	case len(name) > MaxName:
		return fmt.Errorf("name %.40q… has %d bytes, at most %d are possible", name, len(name), MaxName)
	case name == "." || name == "..":
		return fmt.Errorf("name %q is a directory's own or its parent's", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %.100q holds a slash or NUL", name)
	}
	return nil
}

// checkTarget tells why path cannot be that of a hard link's target.
func checkTarget(path string) error {
	if len(path) > MaxName {
		return fmt.Errorf("target %.40q… has %d bytes, at most %d are possible", path, len(path), MaxName)
	}
	for part := range strings.SplitSeq(path, "/") {
		if err := CheckName(part); err != nil {
			return fmt.Errorf("target %.100q: %w", path, err)
		}
	}
	return nil
}

// checkSymlink tells why target cannot be that of a symbolic link.
func checkSymlink(target string) error {
	if len(target) > MaxName {
		return fmt.Errorf("target %.40q… has %d bytes, at most %d are possible", target, len(target), MaxName)
	}
	if strings.ContainsRune(target, 0) {
		return fmt.Errorf("target %.100q holds a NUL", target)
	}
	return nil
}

var errTruncated = fmt.Errorf("%w: it ends early: %w", ErrFormat, io.ErrUnexpectedEOF)
