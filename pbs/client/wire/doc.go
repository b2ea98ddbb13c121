// Package wire carries requests to a Proxmox Backup Server, and what it
// answers back.
//
// A [Server] knows how to reach one, by which certificate to know it, and how
// to log in. Calls of the API go over HTTP/1.1 ([Call]). For what moves data a
// connection of its own is upgraded to HTTP/2, a [Session], on which many
// requests travel side by side. Package client says what is asked for; here it
// is only decided how it gets there, and how failures are told.
//
// net/http speaks HTTP/2 on any connection that it is given, so nothing else
// is needed for the upgrade.
package wire
