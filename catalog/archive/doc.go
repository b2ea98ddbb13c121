// Package archive moves content in and out of snapshots.
//
// [Backup] reads directories, disk images and small files ([Source]) and gives
// their chunks, indexes and blobs to a [Target]: a local datastore, a PBS
// server, or a test. [Open] does the reverse: a [Snapshot] checks what an
// [Origin] has against the manifest, and writes images, trees, single files or
// plain streams. A [Reader] is random access to the content of any index; the
// file browser and the mount work on it. It is made by package content, which
// reads single chunks as well.
//
// The package decides what is read in which order, and how much of it is in
// memory at a time. Formats are decided by chunks, manifest and pxar; where
// things are kept is decided by whoever implements Target and Origin.
//
// Nothing read from an Origin is believed: each chunk is decoded, its digest
// computed from the content and its way of encryption compared with the
// manifest, before a byte is handed on.
package archive
