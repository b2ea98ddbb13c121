// Package client talks to a Proxmox Backup Server, or to anything that speaks
// like one.
//
// A [Client] belongs to one datastore, named by a [Repository] as PBS's own
// client does. It logs in when it has to, and has a method for each thing that
// can be asked of the server: lists, notes, pruning, tasks. The two that move
// data open a connection of their own:
//
//	Client.Begin         a Backup, which is an archive.Target
//	Client.OpenSnapshot  a Snapshot, which is an archive.Origin
//
// Both keep many requests on their way at the same time, within a budget of
// bytes, so that a distance of 150 ms does not decide how fast data moves.
//
// The server is told apart from others by its certificate: one that the
// system's authorities vouch for, or the one whose fingerprint is known. What
// it answers is not believed beyond that; sizes are bounded, names checked,
// and chunks are for package archive to verify.
//
// The protocol is that of PBS 2 to 4 (PBS protocol notes §1, §3, §4).
package client
