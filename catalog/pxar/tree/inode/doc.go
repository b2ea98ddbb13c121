// Package inode reads what an archive keeps of a file of Linux besides its
// name and content into [pxar.Metadata], and applies it to a file again:
// owner, mode, time, extended attributes, capabilities, ACLs, inode flags and
// project id. It also holds the system calls that open, list, read and write
// relative to the descriptor of a directory, for package tree.
package inode

import "errors"

// Errors of names that are not what they were.
var (
	ErrTooManyEntries = errors.New("too many entries in a directory and those above it")
	ErrKind           = errors.New("is not what it was when its directory was listed")
	ErrMoved          = errors.New("was moved to another place")
)
