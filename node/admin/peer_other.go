//go:build !linux

package admin

import "net"

// mayEnter lets in whom the rights of the socket let in.
func mayEnter(net.Conn) error { return nil }
