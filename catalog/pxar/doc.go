// Package pxar reads and writes the pxar archive format, in which Proxmox
// clients back up directory trees, and the pcat1 catalog that lists what such
// archives hold.
//
// An archive is a plain sequence of items, a directory tree written depth
// first: the name of an entry, its metadata, its content. Behind the entries
// of a directory stands a table of them, the goodbye table, which makes the
// archive searchable from its end. Version 1 keeps contents between the
// metadata; version 2 may keep them in a stream of their own (a split archive:
// .mpxar for the metadata, .ppxar for the contents). The section numbers in
// comments are those of our pxar notes, which describe the format.
//
//	Encoder        writes an archive to an io.Writer in one pass
//	Decoder        reads one from an io.Reader in one pass
//	Archive        finds and lists entries over an io.ReaderAt
//	CatalogWriter  writes a pcat1 catalog in one pass
//	Catalog        lists one over an io.ReaderAt
//
// The package knows bytes only. Package catalog/pxar/tree turns archives into
// files and back. Everything read is taken for hostile: offsets are checked
// before use, memory is bounded by constants, recursion is an explicit stack.
package pxar
