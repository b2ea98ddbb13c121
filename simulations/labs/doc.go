// Package labs has no code. Its tests run real daemons on hosts in network
// namespaces, behind real NATs of the kernel and on lines that are slow, lose
// packets and break while the test runs: they become one cluster by token, show
// it, lose nodes and get them back, and pull from each other while all that
// happens. They need root, and say so when they are skipped.
package labs
