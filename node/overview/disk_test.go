package overview

import (
	"errors"
	"os"
	"path/filepath"
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

// The directory of a running node was removed, and all that was said of it is that its disk
// is nearly full.
func TestVanished(t *testing.T) {
	file := filepath.Join(t.TempDir(), "n1", "identity.key")
	if w := Vanished(file, "n1", false); len(w) != 1 || w[0].Level != "critical" || !strings.Contains(w[0].Text, filepath.Dir(file)+" was removed") || !strings.Contains(w[0].Hint, "--replaces") {
		t.Errorf("%+v", w)
	}
	// In a cluster of one it named "another node".
	if w := Vanished(file, "n1", true); len(w) != 1 || strings.Contains(w[0].Hint, "another node") || !strings.Contains(w[0].Hint, "node init") {
		t.Errorf("%+v", w)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil { // something has made it again
		t.Fatal(err)
	}
	if w := Vanished(file, "n1", false); len(w) != 1 {
		t.Errorf("%+v", w)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if w := Vanished(file, "n1", false); len(w) != 0 {
		t.Errorf("%+v", w)
	}
}
