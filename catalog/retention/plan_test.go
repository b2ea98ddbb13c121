package retention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // machines that test may have no time zones
)

// parseBackups reads times like "2025-12-31T23:59" in loc; what is left out is
// the year 2026 and noon. An u behind one means unfinished, a p protected.
func parseBackups(t testing.TB, s string, loc *time.Location) []Backup {
	t.Helper()
	var list []Backup
	for word := range strings.FieldsSeq(s) {
		text := strings.TrimRight(word, "up")
		flags := word[len(text):]
		if len(text) < len("2026-01-02") || text[4] != '-' {
			text = "2026-" + text
		}
		if !strings.Contains(text, "T") {
			text += "T12:00"
		}
		at, err := time.ParseInLocation("2006-01-02T15:04Z07:00", text, loc)
		if err != nil {
			at, err = time.ParseInLocation("2006-01-02T15:04", text, loc)
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Backup{at.Unix(), !strings.Contains(flags, "u"), strings.Contains(flags, "p")})
	}
	return list
}

// parseKeep reads "last=3 daily=7".
func parseKeep(t testing.TB, s string) (k Keep) {
	t.Helper()
	fields := map[string]*int{"last": &k.Last, "hourly": &k.Hourly, "daily": &k.Daily, "weekly": &k.Weekly, "monthly": &k.Monthly, "yearly": &k.Yearly}
	for word := range strings.FieldsSeq(s) {
		name, count, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(count)
		if err != nil || fields[name] == nil {
			t.Fatalf("no rule: %q", word)
		}
		*fields[name] = n
	}
	return k
}

// letters writes a plan, newest first: the first letter of the rule that keeps
// a backup, k if none does and it is kept, - removed, p protected, u partial.
func letters(plan []Decision) string {
	var b strings.Builder
	for _, d := range plan {
		switch {
		case d.Rule != "":
			b.WriteByte(strings.TrimPrefix(d.Rule, "keep-")[0])
		default:
			b.WriteString(map[Mark]string{MarkKeep: "k", MarkRemove: "-", MarkProtected: "p", MarkKeepPartial: "u"}[d.Mark])
		}
	}
	return b.String()
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

type planTest struct{ about, keep, backups, want string }

func runPlans(t *testing.T, loc *time.Location, tests []planTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			backups := parseBackups(t, tt.backups, loc)
			for range 2 { // the order of the input does not matter
				plan := Plan(backups, parseKeep(t, tt.keep), loc)
				if got := letters(plan); got != tt.want {
					t.Fatalf("keep %s of %s: %s, want %s", tt.keep, tt.backups, got, tt.want)
				}
				slices.Reverse(backups)
			}
		})
	}
}

// Backups are written newest first, so that the letters stand below them.
func TestPlan(t *testing.T) {
	runPlans(t, time.UTC, []planTest{
		{"without rules everything stays",
			"", "03-10 02-22 02-10", "kkk"},
		{"without rules unfinished ones stay too, and protection is said",
			"", "03-10u 02-22u 02-10p", "kkp"},
		{"there may be nothing to decide",
			"last=1", "", ""},
		{"the last ones are the newest",
			"last=2", "03-10 02-22 02-10", "ll-"},
		{"more may be asked for than there are",
			"last=9", "03-10 02-22", "ll"},
		{"a day is represented by its newest backup",
			"daily=2", "03-10T20:00 03-10T08:00 03-09T20:00 03-09T08:00 03-08", "d-d--"},
		{"days without a backup do not count",
			"daily=3", "03-10 02-22 02-10 01-01", "ddd-"},
		{"an hour is represented by its newest backup",
			"hourly=2", "03-10T10:59 03-10T10:00 03-10T09:59 03-10T08:59", "h-h-"},
		{"weeks begin on Monday",
			"weekly=2", "2026-03-09 2026-03-08 2026-03-02 2026-03-01", "ww--"},
		{"months and years",
			"monthly=2 yearly=2", "03-10 03-01 02-22 02-10 2025-12-31 2025-01-01", "m-m-y-"},
		{"a period that a former rule covers does not count again",
			"last=1 daily=1", "03-10T20:00 03-10T08:00 03-09", "l-d"},
		{"a coarser rule goes on where the finer one ended",
			"daily=2 monthly=2", "03-10 03-09 03-08 02-22 02-10 01-05", "dd-m-m"},
		{"what a finer rule passed over is not asked again",
			"daily=1 weekly=2", "03-10T20:00 03-10T08:00 03-03T20:00 03-03T08:00", "d-w-"},
		{"a mark of removal is final: the week passed over the end of March, so the month does not get it",
			"weekly=1 monthly=1", "04-02 03-31 03-20", "w-m"},
		{"all rules together",
			"last=1 hourly=1 daily=1 weekly=1 monthly=1 yearly=1",
			"2026-03-19T20:30 2026-03-19T19:30 2026-03-18 2026-03-11 2026-02-10 2025-06-01 2024-06-01", "lhdwmy-"},
		{"a negative count is no rule",
			"last=-1 daily=1", "03-10 03-09", "d-"},
	})
}

func TestPlanOfProtectedBackups(t *testing.T) {
	runPlans(t, time.UTC, []planTest{
		{"a protected one does not count",
			"last=2", "03-10p 03-09 03-08 03-07", "pll-"},
		{"its period is not covered",
			"daily=2", "03-10T20:00p 03-10T08:00 03-09 03-08", "pdd-"},
		{"it stays behind the place where the rules ended",
			"last=1", "03-10 03-09 03-08p", "l-p"},
		{"it stays although it is unfinished and old",
			"last=1", "03-10 03-09up", "lp"},
		{"it stays although it is unfinished and newest",
			"last=1", "03-10up 03-09", "pl"},
		{"all may be protected",
			"last=1", "03-10p 03-09p", "pp"},
	})
}

func TestPlanOfUnfinishedBackups(t *testing.T) {
	runPlans(t, time.UTC, []planTest{
		{"the newest one may still be running",
			"last=1", "03-10u 03-09 03-08", "ul-"},
		{"one that was overtaken will not be finished",
			"last=2", "03-10 03-09u 03-08", "l-l"},
		{"of two only the newest may be running",
			"last=1", "03-10u 03-09u 03-08", "u-l"},
		{"it covers no period",
			"daily=1", "03-10T20:00u 03-10T08:00 03-09", "ud-"},
		{"alone it stays",
			"last=1", "03-10u", "u"},
		{"a protected one overtakes as well",
			"last=1", "03-10p 03-09u 03-08", "p-l"},
	})
}

func TestPlanGoesByTheLocalClock(t *testing.T) {
	backups := "2026-03-10T23:30Z 2026-03-10T22:30Z 2026-03-10T01:00Z"
	for _, tt := range []struct{ about, zone, want string }{
		{"in UTC all three are of one day", "UTC", "d--"},
		{"in Berlin the first is of the next day", "Europe/Berlin", "dd-"},
		{"in New York the last is of the day before", "America/New_York", "d-d"},
		{"in Kathmandu days begin at a quarter past six", "Asia/Kathmandu", "d-d"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			loc := zone(t, tt.zone)
			if got := letters(Plan(parseBackups(t, backups, time.UTC), Keep{Daily: 3}, loc)); got != tt.want {
				t.Fatalf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestPlanWhenTheClockIsChanged(t *testing.T) {
	berlin := zone(t, "Europe/Berlin") // forward 2026-03-29 02:00, back 2026-10-25 03:00
	runPlans(t, berlin, []planTest{
		{"the hour that comes twice is one",
			"hourly=3", "2026-10-25T03:30+01:00 2026-10-25T02:30+01:00 2026-10-25T02:30+02:00 2026-10-25T01:30+02:00", "hh-h"},
		{"the hour that never comes is not missed",
			"hourly=2", "2026-03-29T03:30+02:00 2026-03-29T01:30+01:00 2026-03-29T00:30+01:00", "hh-"},
		{"a day of 25 hours is one day",
			"daily=2", "2026-10-25T23:30+01:00 2026-10-25T00:30+02:00 2026-10-24T23:30+02:00", "d-d"},
		{"a day of 23 hours is one day",
			"daily=2", "2026-03-29T23:30+02:00 2026-03-29T00:30+01:00 2026-03-28T23:30+01:00", "d-d"},
	})
}

func TestPlanOfWeeksAtTheEndOfAYear(t *testing.T) {
	runPlans(t, time.UTC, []planTest{
		{"Friday 2027-01-01 is in the last week of 2026",
			"weekly=2", "2027-01-01 2026-12-31 2026-12-28 2026-12-27", "w--w"},
		{"Monday 2024-12-30 is in the first week of 2025",
			"weekly=2", "2025-01-05 2024-12-30 2024-12-29", "w-w"},
		{"2020 has a week 53, which ends on 2021-01-03",
			"weekly=2", "2021-01-04 2021-01-03 2020-12-28 2020-12-27", "ww--"},
		{"week 1 of two years are two weeks",
			"weekly=2", "2026-01-01 2025-01-01", "ww"},
		{"for the yearly rule the first of January is of its own year",
			"yearly=2", "2027-01-01 2026-12-31", "yy"},
	})
}

// TestPlanOfRealServer repeats what a PBS 3.2.4 answered to
// "prune host/g1 --keep-last N" with these three snapshots.
func TestPlanOfRealServer(t *testing.T) {
	backups := []Backup{{1700000000, true, false}, {1700003600, true, false}, {1700007200, true, false}}
	for n, want := range []string{"kkk", "l--", "ll-"} {
		if got := letters(Plan(backups, Keep{Last: n}, time.UTC)); got != want {
			t.Errorf("keep-last %d: %s, want %s", n, got, want)
		}
	}
}

func TestPlanLeavesItsInputAlone(t *testing.T) {
	backups := parseBackups(t, "02-10 03-10 02-22u", time.UTC)
	before := slices.Clone(backups)
	plan := Plan(backups, Keep{Last: 1}, nil)
	if !slices.Equal(backups, before) {
		t.Errorf("the input was %v and is %v", before, backups)
	}
	if d := plan[0]; d.Backup != before[1] || d.Mark != MarkKeep || d.Rule != "keep-last" || !d.Keep() {
		t.Errorf("the newest: %+v", d)
	}
	if d := plan[2]; d.Backup != before[0] || d.Mark != MarkRemove || d.Rule != "" || d.Keep() {
		t.Errorf("the oldest: %+v", d)
	}
}

func BenchmarkPlan(b *testing.B) {
	backups := make([]Backup, 10_000)
	for i := range backups {
		backups[i] = Backup{Time: 1_700_000_000 + int64(i)*1800, Finished: true}
	}
	keep := Keep{3, 24, 7, 4, 12, 3}
	for b.Loop() {
		if got := Plan(backups, keep, time.UTC); len(got) != len(backups) {
			b.Fatal(fmt.Sprint(len(got)))
		}
	}
}
