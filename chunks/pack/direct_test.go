package pack

import "github.com/holdfast-mesh/holdfast/chunks/disk"

// The choices for [Config.Direct], as tests call them.
const (
	DirectOn  = disk.Always
	DirectOff = disk.Never
)

type Direct = disk.When
