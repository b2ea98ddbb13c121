//go:build !linux

package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

var errNotLinux = fmt.Errorf("directory trees are archived and extracted on Linux only: %w", errors.ErrUnsupported)

// Create fails on this system.
func Create(context.Context, string, Sinks, Options) (Report, error) { return Report{}, errNotLinux }

// Extract fails on this system.
func Extract(context.Context, *pxar.Archive, string, ExtractOptions) (Report, error) {
	return Report{}, errNotLinux
}

// Device fails on this system.
func Device(string) (uint64, error) { return 0, errNotLinux }
