// Package conformance has no code. Its tests are what every PBS server should
// pass, one for each check and each behaviour of clients in the PBS protocol
// notes (§12.4, §13), and what official clients and servers were recorded to say,
// against a whole server. docs/conformance.md tells which test shows what. What
// only a real client or a real PBS can show is in docs/interoperability.md.
package conformance
