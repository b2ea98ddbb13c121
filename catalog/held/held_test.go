package held

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

const day = 24 * time.Hour

var snapshot = naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "100"}, Time: time.Date(2026, 1, 11, 12, 0, 0, 0, time.UTC).Unix()}

func at(d time.Duration) time.Time { return time.Unix(snapshot.Time, 0).Add(d) }

func filter(t *testing.T, s string) (f naming.Filters) {
	if err := f.Set(s); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGuardForbids(t *testing.T) {
	keep := func(d time.Duration) Guard { return Guard{MinRetention: retention.Duration(d)} }
	for _, row := range []struct {
		what  string
		guard Guard
		now   time.Time
		want  string
	}{
		{"nothing is guarded", Guard{}, at(0), ""},
		{"a snapshot of the future, and nothing is guarded", Guard{}, at(-day), ""},
		{"a young one", keep(7 * day), at(7*day - time.Second), "it is kept for 168h0m0s, until 2026-01-18T12:00:00Z"},
		{"one that is old enough", keep(7 * day), at(7 * day), ""},
		{"one of the future", keep(time.Second), at(-day), "it is kept for 1s, until 2026-01-11T12:00:01Z"},
		{"a frozen group", Guard{Frozen: filter(t, "group:vm/100")}, at(999 * day), "its group is frozen"},
		{"another frozen group", Guard{Frozen: filter(t, "group:vm/101")}, at(0), ""},
		{"all but one are frozen", Guard{Frozen: filter(t, "exclude:group:vm/100")}, at(0), ""},
		{"a delay is no retention", Guard{DeletionDelay: retention.Duration(9 * day)}, at(0), ""},
	} {
		if got := row.guard.Forbids(snapshot, row.now, nil); got != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
}

// The age that counts is that of a clock which does not jump, be the machine's ahead
// or behind; and what is said is never a time that is over.
func TestAgeCountsAndNotTheClock(t *testing.T) {
	g := Guard{MinRetention: retention.Duration(7 * day)}
	for _, row := range []struct {
		what      string
		now       time.Time
		age       time.Duration
		kept, say string
	}{
		{"the clock is years ahead", at(999 * day), 20 * time.Second, "it is kept for 168h0m0s", "is 20s old by the guard's own clock"},
		{"ahead, and a second is missing", at(999 * day), 7*day - time.Second, "it is kept", "own clock"},
		{"ahead, and old enough", at(999 * day), 7 * day, "", ""},
		{"the clock is years behind", at(-999 * day), 7 * day, "", ""},
		{"behind, and young", at(-999 * day), time.Hour, "it is kept", "until 2026-01-18"},
		{"right", at(6 * day), 6 * day, "it is kept", "until 2026-01-18"},
		{"of the future for that clock as well", at(999 * day), -day, "it is kept", "is 0s old"},
	} {
		got := g.Forbids(snapshot, row.now, func(stamp time.Time) time.Duration {
			if !stamp.Equal(at(0)) {
				t.Errorf("asked for the age of %s", stamp)
			}
			return row.age
		})
		if !strings.HasPrefix(got, row.kept) || !strings.Contains(got, row.say) || (got == "") != (row.kept == "") {
			t.Errorf("%s: %q", row.what, got)
		}
	}
}

func TestInTrash(t *testing.T) {
	e := &InTrash{Delay: 720 * time.Hour}
	lost := errors.New("x")
	if e.Keeps(at(day), true, "") || e.Beside(nil) != nil || e.Beside(lost) != lost {
		t.Error("what may go stays")
	}
	if !e.Keeps(at(2*day), false, "") || !e.Keeps(at(day), false, "a floor, too") || e.Beside(nil) != error(e) {
		t.Error("what waits goes")
	}
	if err := e.Beside(lost); !errors.Is(err, lost) || !errors.Is(err, ErrGuarded) {
		t.Errorf("beside another error: %v", err)
	}
	if got, want := e.Error(), "2 snapshots stay in the trash: the guard's deletion-delay keeps 2 for 720h0m0s since they were forgotten, the last until 2026-01-13T12:00:00Z"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !e.Keeps(at(0), true, "main keeps snapshots for 72h0m0s") || !e.Keeps(at(0), true, "another") {
		t.Error("what floors keep goes")
	}
	if got := e.Error(); e.Count() != 4 || !strings.HasPrefix(got, "4 snapshots stay") || !strings.HasSuffix(got, "2 for other reasons, the first: main keeps snapshots for 72h0m0s") {
		t.Errorf("%d: %q", e.Count(), got)
	}
	if !errors.Is(e, ErrGuarded) || e.Hint() == "" {
		t.Error("it is no refusal of the guard, or has no hint")
	}
}
