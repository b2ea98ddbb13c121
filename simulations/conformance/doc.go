// Package conformance has no code. Its tests are what every PBS server should
// pass, one for each check and each behaviour of clients in the PBS protocol
// notes (§12.4, §13) that can be seen from the wire, against a whole server:
// router, accounts, tasks, sessions and datastore. What only a real client or a
// real PBS can show is in docs/interoperability.md.
package conformance
