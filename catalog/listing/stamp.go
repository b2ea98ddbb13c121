package listing

import (
	"io/fs"
	"time"
)

// A Stamp tells one state of a directory from others: it changes when a name
// in it does. Change time and inode, where the system has them, cannot be set
// by those who restore or copy directories together with their times.
type Stamp struct {
	Modified, Changed int64 // ns since 1970; Changed is 0 if the system does not tell
	Inode             uint64
}

// StampOf returns the stamp of a directory.
func StampOf(info fs.FileInfo) Stamp {
	s := Stamp{Modified: info.ModTime().UnixNano()}
	s.Changed, s.Inode = changed(info)
	return s
}

// racyAge is how old a change must be to be told from the next one: the
// coarsest clock of a file system, FAT's, ticks every two seconds.
const racyAge = 3 * time.Second

// settled reports whether what was read at a time cannot have changed since
// without changing the stamp.
func (s Stamp) settled(read time.Time) bool {
	last := s.Changed
	if last == 0 {
		last = s.Modified
	}
	return read.UnixNano()-last > int64(racyAge)
}
