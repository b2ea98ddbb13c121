//go:build !linux || 386 || arm || mips || mipsle

package mount

import (
	"context"
	"errors"
)

// mount is for 64-bit Linux only: elsewhere package fuse lacks a kernel that
// speaks with it, or does not build.
func mount(context.Context, string, Content, Options) error {
	return &opError{"mount", "restore what is needed instead: holdfast restore", errors.ErrUnsupported}
}
