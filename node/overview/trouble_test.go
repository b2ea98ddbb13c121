package overview

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/pbs/stores/away"
)

// A node whose disk was full was shown by all others as if nothing were: what it says in
// its feed is on that disk.
func TestTroubleOfAnother(t *testing.T) {
	m := New("n1", "id", "s1")
	m.Path, m.Trouble = "direct", "its ledger has stopped: no space left on device"
	all := Warnings([]Member{m}, nil, time.Now())
	if len(all) != 1 || all[0].Level != "critical" || all[0].Node != "n1" || all[0].Text != m.Trouble || all[0].Hint == "" {
		t.Errorf("%+v", all)
	}
	m.Trouble = ""
	if all := Warnings([]Member{m}, nil, time.Now()); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// A member that was drained, and forgotten, ran no shared job for months, and status
// did not say it.
func TestDrainedIsTold(t *testing.T) {
	m := New("n1", "id", "s1")
	m.Path, m.State = "direct", ledger.Draining
	all := Warnings([]Member{m}, nil, time.Now())
	if len(all) != 1 || !strings.Contains(all[0].Text, "is drained") || !strings.Contains(all[0].Hint, "member return n1") {
		t.Errorf("%+v", all)
	}
	m.Voter = true
	if all := Warnings([]Member{m}, nil, time.Now()); len(all) != 1 || !strings.Contains(all[0].Text, "votes still") {
		t.Errorf("%+v", all)
	}
	m.State, m.Voter = ledger.Active, true
	if all := Warnings([]Member{m}, nil, time.Now()); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// Of a member that this node blocks it was said that nothing was heard of it, and whether
// it runs.
func TestBlockedIsNotAway(t *testing.T) {
	m := New("n1", "id", "s1")
	m.State = ledger.Active
	if all := Warnings([]Member{m}, nil, time.Now()); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	m.Blocked = true
	if all := Warnings([]Member{m}, nil, time.Now()); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// That all backups of a site are gone was a plain warning, of this node and of others, which
// send the text only. Other troubles of a datastore stay warnings.
func TestDatastoreIsGone(t *testing.T) {
	for text, level := range map[string]string{
		away.Error("main", "/x", errors.New("no")).Error():                                          "critical",
		"datastore 'main' is not available: open store /x: " + identity.ErrNotStore.Error() + " (x": "critical",
		"datastore 'usb' is not available: its disk is away":                                        "warning",
	} {
		m := New("n1", "id", "s1")
		m.Path, m.Stores = "direct", []Store{{Store: "main", Error: text}}
		all := Warnings([]Member{m}, nil, time.Now())
		if len(all) != 1 || all[0].Level != level || level == "critical" && all[0].Hint == "" || !strings.Contains(all[0].Text, text) {
			t.Errorf("%s: %+v", text, all)
		}
	}
}
