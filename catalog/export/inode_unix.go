//go:build unix

package export

import (
	"io/fs"
	"syscall"
)

// inode returns the number of a file's inode, 0 if it is not known.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino) // narrower on some systems
	}
	return 0
}

// ownerOf returns whose a file is.
func ownerOf(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}
