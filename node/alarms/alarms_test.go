package alarms

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// That the disk went back was shown until the next restart only.
func TestAlarmsStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alarms.json")
	now := time.Unix(1e9, 0)
	open := func() *Alarms {
		t.Helper()
		a, err := Open(file, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a := open()
	must(a.Raise("restored", "its disk went back\nto before", "look at it"))
	must(a.Raise("diverged", "its ledger is another one", ""))
	must(a.Raise("nothing", "", ""))
	now = now.Add(time.Hour)
	must(a.Raise("restored", "its disk went back twice", "look at it"))
	a = open()
	if l := a.List(); len(l) != 2 || l[0].Key != "restored" || l[0].Text != "its disk went back twice" || l[0].Since != 1e9 {
		t.Fatalf("%+v", l)
	}
	must(a.Raise("diverged", "", ""))
	if l := open().List(); len(l) != 1 {
		t.Errorf("%+v", l)
	}
	now = now.Add(Kept)
	if l := open().List(); len(l) != 0 {
		t.Errorf("after a week: %+v", l)
	}
	must(a.Raise("restored", "again", ""))
	must(a.Seen())
	if l := open().List(); len(l) != 0 {
		t.Errorf("somebody has looked: %+v", l)
	}
	must(os.WriteFile(file, []byte("{"), 0o600))
	if a, err := Open(file, time.Now); err == nil || a == nil || a.Raise("x", "y", "") != nil {
		t.Errorf("a damaged file: %v, %v", a, err)
	}
}
