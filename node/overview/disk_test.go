package overview

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A voter whose disk was full said nothing of it.
func TestLittleRoom(t *testing.T) {
	with := func(free int64, err error) []Warning {
		return Disk("/state", "n1", func(string) (disk.Space, error) { return disk.Space{FreeBytes: free}, err })
	}
	if w := with(least, nil); len(w) != 0 {
		t.Errorf("%+v", w)
	}
	if w := with(least-1, nil); len(w) != 1 || w[0].Level != "critical" || !strings.Contains(w[0].Text, "255 MiB left") {
		t.Errorf("%+v", w)
	}
	if w := with(0, errors.New("no")); len(w) != 1 || w[0].Level != "warning" {
		t.Errorf("%+v", w)
	}
	if w := Disk(t.TempDir(), "n1", nil); len(w) > 1 {
		t.Errorf("%+v", w)
	}
}
