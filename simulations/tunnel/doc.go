// Package tunnel has no code. Its tests run the tunnel in processes without
// privileges, on hosts behind real NATs of the kernel, and over a real relay of libp2p.
package tunnel
