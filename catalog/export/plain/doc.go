// Package plain writes backups in forms that every Linux reads without us:
// directories as tar archives ([Tar]), disk images as they are, and whole
// snapshots with checksums and a page that says what to type ([Export]).
//
// Nothing here is a format of ours. The tests restore what it writes with tar,
// dd and sha256sum and compare.
package plain
