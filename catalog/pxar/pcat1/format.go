// Package pcat1 reads and writes pcat1 catalogs, which Proxmox clients store
// beside pxar archives: a tree of names that tells what is in the archives of
// a backup without reading them. On its first level are directories named
// after the archives as they are stored ("root.pxar.didx").
//
// A catalog is a magic, the tables of all directories, each behind those of
// what it holds, and the offset of the root's table (PBS protocol notes §5.7).
package pcat1

import (
	"errors"
	"fmt"
	"strings"
)

// magic begins a catalog.
const magic = "\x91\xfd\x60\xf9\xc4\x67\x58\xd5"

// maxName is the longest name of an entry, in bytes.
const maxName = 4095

// ErrFormat says that bytes are not the catalog they should be. Errors of
// reading do not match it.
var ErrFormat = errors.New("malformed catalog")

// malformed returns an error that matches [ErrFormat].
func malformed(at int64, format string, args ...any) error {
	return fmt.Errorf("%w: offset %d: %w", ErrFormat, at, fmt.Errorf(format, args...))
}

// A Type says what an entry is.
type Type byte

// The types of entries, as they are stored.
const (
	Dir         Type = 'd'
	File        Type = 'f'
	Symlink     Type = 'l'
	Hardlink    Type = 'h'
	BlockDevice Type = 'b'
	CharDevice  Type = 'c'
	Fifo        Type = 'p'
	Socket      Type = 's'
)

func (t Type) known() bool { return strings.IndexByte("dflhbcps", byte(t)) >= 0 }

// An Entry is one name in a catalog.
type Entry struct {
	Name  string
	Type  Type
	Size  uint64 // of files, in bytes
	Mtime int64  // of files, in seconds since 1970

	// The table of a directory stands at table and ends at or before limit.
	// Those of everything below it stand between floor and table.
	table, floor, limit int64
}

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Type == Dir }

// checkName tells why name cannot be that of an entry, by the rules of pxar
// archives.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("name is empty")
	case len(name) > maxName:
		return fmt.Errorf("name %.40q… has %d bytes, at most %d are possible", name, len(name), maxName)
	case name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %.100q cannot be that of a file", name)
	}
	return nil
}
