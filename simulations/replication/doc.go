// Package replication has no code. Its test lets sites back up, prune, verify
// and pull from each other for weeks of virtual time, while links break,
// processes are killed, disks rot, clocks jump and a peer lies, and looks after
// every step whether what replication promises still holds.
package replication
