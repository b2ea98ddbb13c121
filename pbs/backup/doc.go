// Package backup is the server's side of the PBS backup protocol: what a
// client says on a connection that was upgraded to
// proxmox-backup-protocol-v1 (PBS protocol notes §3).
//
// [Server.Begin] begins the snapshot, before the 101: a client that is refused
// gets the reason in HTTP/1.1. [Session.Serve] then answers the client's
// requests, many at a time, and removes the snapshot unless the client has
// finished it. What was uploaded stays as chunks that the next garbage
// collection takes, or the next attempt finds.
//
// A chunk is read into one borrowed buffer, checked there, and handed to the
// store. Memory is bounded by [Config.Memory] for each session, not by what
// clients announce; see budget.go for how that works without a deadlock.
//
// Stricter than PBS, on purpose: an index is refused as a base unless all of
// its chunks are here, and a snapshot is finished only if its manifest lists
// exactly what was uploaded, with the sums that it has (package catalog).
package backup
