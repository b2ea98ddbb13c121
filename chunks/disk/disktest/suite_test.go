package disktest

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func TestSuite(t *testing.T) {
	everything := disk.Abilities{Direct: true, Punch: true, Clone: true, Map: true}
	for _, row := range []struct {
		name string
		open func(t *testing.T) (disk.FS, string)
	}{
		{"the machine", func(t *testing.T) (disk.FS, string) { return disk.OS{}, t.TempDir() }},
		{"the machine through Faulty", func(t *testing.T) (disk.FS, string) { return NewFaulty(disk.OS{}), t.TempDir() }},
		{"memory", func(*testing.T) (disk.FS, string) { return NewMem(), "/" }},
		{"memory after a crash", func(*testing.T) (disk.FS, string) { return NewMem().Crash(1), "/" }},
		{"memory through Faulty", func(*testing.T) (disk.FS, string) { return NewFaulty(NewMem()), "/" }},
		{"memory without abilities", func(*testing.T) (disk.FS, string) {
			m := NewMem()
			m.Disable(everything)
			return m, "/"
		}},
		{"plain memory", func(*testing.T) (disk.FS, string) { return Plain(NewMem()), "/" }},
	} {
		t.Run(row.name, func(t *testing.T) { Run(t, row.open) })
	}
}
