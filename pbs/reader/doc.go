// Package reader is the server's side of the PBS reader protocol: what a
// client says on a connection that was upgraded to
// proxmox-backup-reader-protocol-v1 (PBS protocol notes §4).
//
// [Server.Open] opens the snapshot before the 101, [Session.Serve] answers
// requests until the client goes. Chunks are handed out as they are stored,
// and only those of an index that was downloaded on the same connection: a
// client may read a snapshot, not a store.
//
// Clients read chunk after chunk in the order of an index, and wait for each.
// A session that sees this reads ahead, in the order in which chunks lie in
// packs, so that the next one is in memory when it is asked for (readahead.go).
package reader
