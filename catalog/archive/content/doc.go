// Package content reads what an index names.
//
// A [Decoder] turns the chunks of one index into content, and proves each to
// be what the index names before a byte is handed on: nothing that a store or
// a server returns is believed. A [Reader] makes random access to the whole of
// it, with a bounded cache and reading ahead; mounts and restores of single
// files work on it.
package content
