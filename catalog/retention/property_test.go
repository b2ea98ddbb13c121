package retention

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// naivePlan is §8.3 of the protocol notes once more, step by step, with periods
// written as text as PBS does. It returns marks by time.
func naivePlan(backups []Backup, keep Keep, loc *time.Location) map[int64]Mark {
	list := slices.Clone(backups)
	slices.SortFunc(list, func(a, b Backup) int { return int(b.Time - a.Time) })
	marks := map[int64]Mark{}
	for i, b := range list {
		if !b.Finished && i == 0 {
			marks[b.Time] = "keep-partial"
		} else if !b.Finished {
			marks[b.Time] = "remove"
		}
	}
	format := func(layout string) func(int64) string {
		return func(at int64) string { return time.Unix(at, 0).In(loc).Format(layout) }
	}
	isoWeek := func(at int64) string {
		y, w := time.Unix(at, 0).In(loc).ISOWeek()
		return strconv.Itoa(y) + "/" + strconv.Itoa(w)
	}
	for _, r := range []struct {
		n  int
		id func(int64) string
	}{
		{keep.Last, format(time.RFC3339)}, {keep.Hourly, format("2006/01/02/15")}, {keep.Daily, format("2006/01/02")},
		{keep.Weekly, isoWeek}, {keep.Monthly, format("2006/01")}, {keep.Yearly, format("2006")},
	} {
		if r.n > 0 {
			naiveRule(list, marks, r.n, r.id)
		}
	}
	nothing := keep == Keep{}
	for _, b := range list {
		switch _, marked := marks[b.Time]; {
		case b.Protected:
			marks[b.Time] = "protected"
		case nothing:
			marks[b.Time] = "keep"
		case !marked:
			marks[b.Time] = "remove"
		}
	}
	return marks
}

func naiveRule(list []Backup, marks map[int64]Mark, n int, id func(int64) string) {
	var already, included []string
	for at, mark := range marks {
		if mark == "keep" {
			already = append(already, id(at))
		}
	}
	for _, b := range list {
		if _, marked := marks[b.Time]; marked {
			continue
		}
		if b.Protected {
			marks[b.Time] = "protected"
			continue
		}
		p := id(b.Time)
		if slices.Contains(already, p) {
			continue
		}
		if slices.Contains(included, p) {
			marks[b.Time] = "remove"
			continue
		}
		if len(included) >= n {
			break
		}
		included = append(included, p)
		marks[b.Time] = "keep"
	}
}

// backupsOf draws a group: times that crowd in the same hours and days, around
// changes of the clock and of the year.
func backupsOf(t *rapid.T) []Backup {
	around := rapid.SampledFrom([]int64{1774745999, 1792889999, 1767225599, 1735603200, 1700000000}).Draw(t, "around")
	step := rapid.SampledFrom([]int64{60, 1800, 6 * 3600, 86400, 5 * 86400, 40 * 86400}).Draw(t, "step")
	one := rapid.Custom(func(t *rapid.T) Backup {
		return Backup{
			Time:      around + step*int64(rapid.IntRange(-20, 20).Draw(t, "steps")) + int64(rapid.IntRange(0, 59).Draw(t, "seconds")),
			Finished:  rapid.IntRange(0, 5).Draw(t, "finished") > 0,
			Protected: rapid.IntRange(0, 5).Draw(t, "protected") == 0,
		}
	})
	return rapid.SliceOfNDistinct(one, 0, 25, func(b Backup) int64 { return b.Time }).Draw(t, "backups")
}

func keepOf(t *rapid.T) Keep {
	n := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 7})
	return Keep{n.Draw(t, "last"), n.Draw(t, "hourly"), n.Draw(t, "daily"), n.Draw(t, "weekly"), n.Draw(t, "monthly"), n.Draw(t, "yearly")}
}

func TestPlanIsThatOfTheSlowVersion(t *testing.T) {
	locations := []*time.Location{time.UTC, zone(t, "Europe/Berlin"), zone(t, "America/New_York"), zone(t, "Australia/Lord_Howe"), zone(t, "Asia/Kathmandu")}
	rapid.Check(t, func(t *rapid.T) {
		backups, keep := backupsOf(t), keepOf(t)
		loc := rapid.SampledFrom(locations).Draw(t, "location")
		want := naivePlan(backups, keep, loc)
		plan := Plan(backups, keep, loc)
		if len(plan) != len(backups) {
			t.Fatalf("%d decisions about %d backups", len(plan), len(backups))
		}
		for i, d := range plan {
			if i > 0 && plan[i-1].Time <= d.Time {
				t.Fatalf("decision %d is not older than the one before", i)
			}
			if d.Mark != want[d.Time] {
				t.Fatalf("%s, %+v: %s, want %s\n%s", keep, d.Backup, d.Mark, want[d.Time], letters(plan))
			}
			if !slices.Contains(backups, d.Backup) {
				t.Fatalf("%+v was not asked about", d.Backup)
			}
			if byRule := d.Rule != ""; byRule && d.Mark != MarkKeep || !byRule && d.Mark == MarkKeep && !keep.IsZero() {
				t.Fatalf("mark %s with rule %q", d.Mark, d.Rule)
			}
		}
	})
}

// kept counts backups that count for rules and stay.
func kept(plan []Decision) (n int) {
	for _, d := range plan {
		if d.Keep() && d.Finished && !d.Protected {
			n++
		}
	}
	return n
}

// TestKeepLastKeepsSoMany: whatever else is asked for, the newest N finished
// backups stay, and with them everything that is protected.
func TestKeepLastKeepsSoMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backups, keep := backupsOf(t), keepOf(t)
		keep.Last = rapid.IntRange(1, 30).Draw(t, "at least")
		plan := Plan(backups, keep, time.UTC)
		left := keep.Last
		for _, d := range plan {
			if d.Protected && d.Mark != MarkProtected {
				t.Fatalf("%+v is protected and has mark %s", d.Backup, d.Mark)
			}
			if !d.Finished || d.Protected {
				continue
			}
			if left--; left >= 0 && !d.Keep() {
				t.Fatalf("%s removes %+v, which is among the last\n%s", keep, d.Backup, letters(plan))
			}
		}
	})
}

// TestEveryRuleKeepsAtMostSoMany and the newest finished backup always.
func TestEveryRuleKeepsAtMostSoMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backups, keep := backupsOf(t), keepOf(t)
		plan := Plan(backups, keep, time.UTC)
		used := map[string]int{}
		for _, d := range plan {
			used[d.Rule]++
		}
		for _, r := range keep.rules() {
			if used[r.name] > r.count {
				t.Fatalf("%s keeps %d, may keep %d", r.name, used[r.name], r.count)
			}
		}
		for _, d := range plan {
			if d.Finished && !d.Protected {
				if !d.Keep() {
					t.Fatalf("%s removes the newest: %s", keep, letters(plan))
				}
				break
			}
		}
	})
}

// TestPruningAgainRemovesNothingMore: what a plan keeps, the same rules keep
// the next time, unless a rule then reaches further back than before.
func TestPruningAgainRemovesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		backups, keep := backupsOf(t), keepOf(t)
		first := Plan(backups, keep, time.UTC)
		var rest []Backup
		for _, d := range first {
			if d.Keep() {
				rest = append(rest, d.Backup)
			}
		}
		if again := Plan(rest, keep, time.UTC); kept(again) != kept(first) {
			t.Fatalf("%s keeps %s, and of that only %s", keep, letters(first), letters(again))
		}
	})
}
