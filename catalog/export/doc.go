// Package export moves backups between a datastore and the datastores of
// Proxmox Backup Server, so that nobody is locked in, on the way in or out. A
// directory of PBS is read in place ([PBS]), taken over ([ImportPBS]) or
// written ([ExportPBS]). Index files and chunks stay what they are, byte for
// byte; of manifests the JSON stays the same. Package plain, below, writes
// snapshots that need no backup software at all.
//
// Import and export are copies that can be stopped at any moment: what is there
// is not copied again, a snapshot counts only when its manifest is written, and
// that comes last. A snapshot that cannot be copied is refused with a reason
// ([Report]), and the others are copied all the same.
//
// The layout of a PBS datastore is that of PBS protocol notes §5.8.
package export
