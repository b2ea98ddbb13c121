package settings

import (
	"slices"
	"strings"
	"testing"
)

// Rotation of the keys of a job (features rows 93 and 94).
func TestSetKeys(t *testing.T) {
	text := func(s string) *string { return &s }
	list := func(s string) *[]string { l := strings.Fields(s); return &l }
	for _, tt := range []struct {
		name           string
		was, had       string // the active one, and those associated
		active         *string
		associated     *[]string
		is, associates string
	}{
		{"the first", "", "", text("k0"), nil, "k0", ""},
		{"another one: the one before is associated", "k0", "", text("k1"), nil, "k1", "k0"},
		{"and again", "k1", "k0", text("k2"), nil, "k2", "k0 k1"},
		{"with a list: the one before is kept though it is not listed", "k0", "", text("k1"), list("k2 k3"), "k1", "k0 k2 k3"},
		{"what is not listed goes", "k0", "k1 k2", nil, list("k2"), "k0", "k2"},
		{"the list is emptied", "k0", "k1 k2", nil, list(""), "k0", ""},
		{"the list is emptied with a change", "k0", "k1 k2", text("k3"), list(""), "k3", "k0"},
		{"the same again changes nothing", "k0", "k1", text("k0"), nil, "k0", "k1"},
		{"back to one that was before", "k1", "k0", text("k0"), nil, "k0", "k1"},
		{"none any more", "k0", "k1", text(""), nil, "", "k0 k1"},
		{"each once", "k0", "", text("k1"), list("k0 k2 k2"), "k1", "k0 k2"},
		{"of a pull", "", "", nil, list("k2 k1"), "", "k1 k2"},
	} {
		j := SyncJob{ActiveKey: tt.was, AssociatedKeys: strings.Fields(tt.had)}
		j.SetKeys(tt.active, tt.associated)
		if j.ActiveKey != tt.is || !slices.Equal(j.AssociatedKeys, strings.Fields(tt.associates)) {
			t.Errorf("%s: %q, %q, want %q, %q", tt.name, j.ActiveKey, j.AssociatedKeys, tt.is, tt.associates)
		}
	}
	if err := (SyncJob{Store: "a", Remote: "r", RemoteStore: "b", ActiveKey: "k"}).Check(); err == nil || !strings.Contains(err.Error(), "--associated-key") {
		t.Errorf("a pull with an active key: %v", err)
	}
}
