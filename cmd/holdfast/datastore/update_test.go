package datastore

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// Days were refused here ("unknown unit"), and taken everywhere else.
func TestTrashDelay(t *testing.T) {
	for text, want := range map[string]time.Duration{"20d": 480 * time.Hour, "36h": 36 * time.Hour, "0": 0} {
		var s catalog.Settings
		if err := setTrashDelay(&s, text); err != nil || s.TrashDelay == nil || time.Duration(*s.TrashDelay) != want {
			t.Errorf("%s: %v, %v", text, s.TrashDelay, err)
		}
	}
	for _, bad := range []string{"-1h", "soon", ""} {
		if err := setTrashDelay(new(catalog.Settings), bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
