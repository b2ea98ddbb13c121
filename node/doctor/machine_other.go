//go:build !linux

package doctor

import "errors"

func room(string) (Room, error) { return Room{}, errors.ErrUnsupported }

func kernelClock() (set, known bool) { return false, false }

func openFiles() (uint64, error) { return 0, errors.ErrUnsupported }
