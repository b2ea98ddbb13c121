// Package crowd has no code. Its test has many clients back up to one node at
// once, while the node prunes, verifies, collects and forgets.
package crowd
