package catalog

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func TestChanges(t *testing.T) {
	d, _, _ := newStore(t)
	s, g := snap("vm/100", 1), group("vm/100")
	mustBackUp(t, d, "", s)
	none := snap("vm/101", 1)
	long := strings.Repeat("x", maxNotes+1)
	log := chunks.Blob(config(s, nil))
	must(t, d.AddLog("", s, log))
	for _, row := range []struct {
		what string
		err  error
		want error
	}{
		{"notes of a snapshot that is not there", d.SetNotes("", none, "x"), fs.ErrNotExist},
		{"notes of a group that is not there", d.SetGroupNotes("", none.Group, "x"), fs.ErrNotExist},
		{"owner of a group that is not there", d.SetOwner("", none.Group, bob), fs.ErrNotExist},
		{"protection of a snapshot that is not there", d.SetProtected("", none, true), fs.ErrNotExist},
		{"log of a snapshot that is not there", d.AddLog("", none, log), fs.ErrNotExist},
		{"a second log", d.AddLog("", s, log), fs.ErrExist},
		{"a damaged log", d.AddLog("", none, log[:len(log)-1]), chunks.ErrCorrupt},
		{"a snapshot that is not there", second2(d.OpenSnapshot(t.Context(), "", none)), fs.ErrNotExist},
	} {
		wants(t, row.what, row.err, row.want)
	}
	for what, err := range map[string]error{
		"notes that are too long":          d.SetNotes("", s, long),
		"notes of a group, too long":       d.SetGroupNotes("", g, long),
		"an owner who is no user":          d.SetOwner("", g, "bob\n"),
		"a change of what is signed":       d.UpdateManifest("", s, func(m *Manifest) error { m.Files[0].Size++; return nil }),
		"a file less":                      d.UpdateManifest("", s, func(m *Manifest) error { m.Files = m.Files[1:]; return nil }),
		"a change that fails":              d.UpdateManifest("", s, func(*Manifest) error { return os.ErrClosed }),
		"a mode of maintenance of nowhere": d.SetSettings(Settings{Maintenance: Maintenance{Mode: "asleep"}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	must(t, verify(t.Context(), d, "", s, []uint64{1, 2, 3}))

	must(t, d.SetGroupNotes("", g, "group"))
	if notes, err := d.GroupNotes("", g); notes != "group" || err != nil {
		t.Errorf("group notes are %q, %v", notes, err)
	}
	must(t, errors.Join(d.SetGroupNotes("", g, ""), d.SetGroupNotes("", g, ""), d.SetOwner("", g, bob)))
	if notes, err := d.GroupNotes("", g); notes != "" || err != nil {
		t.Errorf("group notes are %q, %v", notes, err)
	}
	if owner, err := d.Owner("", g); owner != bob || err != nil {
		t.Errorf("owner is %q, %v", owner, err)
	}
	for _, on := range []bool{true, true, false, false} { // the same value twice is fine
		must(t, d.SetProtected("", s, on))
		if got, err := d.Protected("", s); got != on || err != nil {
			t.Errorf("protected is %v, %v; want %v", got, err, on)
		}
	}
}

func second2(_ *Reader, err error) error { return err }
