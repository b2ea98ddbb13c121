// Package tunnel has no code. Its tests run the tunnel in processes without
// privileges, on hosts behind real NATs of the kernel.
package tunnel
