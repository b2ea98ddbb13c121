//go:build !linux

package udp

import "syscall"

const controlBytes = 1

func prepare(syscall.RawConn, bool) error           { return nil }
func offloads(syscall.RawConn) (send, receive bool) { return false, false }
func setSegmentSize(control []byte, size uint16)    {}
func segmentSize(control []byte) int                { return 0 }
func refused(error) bool                            { return false }
func cannot(error) bool                             { return false }
