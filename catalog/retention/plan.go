package retention

import (
	"cmp"
	"slices"
	"time"
)

// A Backup is what the rules look at.
type Backup struct {
	Time      int64 // seconds since 1970, unique within a group
	Finished  bool  // has a manifest
	Protected bool  // somebody said that it must stay
}

// A Mark says what becomes of a backup.
type Mark string

// The marks of PBS.
const (
	MarkKeep        Mark = "keep"
	MarkKeepPartial Mark = "keep-partial" // unfinished, and newer than all others: it may be running
	MarkRemove      Mark = "remove"
	MarkProtected   Mark = "protected"
)

// Keep reports whether the backup stays.
func (m Mark) Keep() bool { return m != MarkRemove }

// A Decision is what becomes of one backup.
type Decision struct {
	Backup
	Mark Mark
	Rule string // the rule that keeps it, "keep-daily"; "" if it is none of the six
}

// Keep reports whether the backup stays.
func (d Decision) Keep() bool { return d.Mark.Keep() }

// Plan decides about all backups of one group, in any order, and returns the
// decisions newest first. Hours, days, weeks, months and years begin when they
// do in loc; nil means the machine's own time zone. Without any rule
// everything is kept.
func Plan(backups []Backup, keep Keep, loc *time.Location) []Decision {
	if loc == nil {
		loc = time.Local
	}
	plan := make([]Decision, len(backups))
	for i, b := range backups {
		plan[i].Backup = b
	}
	slices.SortStableFunc(plan, func(a, b Decision) int { return cmp.Compare(b.Time, a.Time) })
	if keep.IsZero() {
		finish(plan, MarkKeep)
		return plan
	}
	markUnfinished(plan)
	for _, r := range keep.rules() {
		if r.count > 0 {
			r.apply(plan, loc)
		}
	}
	finish(plan, MarkRemove)
	return plan
}

// markUnfinished keeps an unfinished backup only if nothing is newer: what a
// newer backup has overtaken will not be finished any more.
func markUnfinished(plan []Decision) {
	for i := range plan {
		switch {
		case plan[i].Finished:
		case i == 0:
			plan[i].Mark = MarkKeepPartial
		default:
			plan[i].Mark = MarkRemove
		}
	}
}

// apply marks what one rule decides. A period that a former rule covers does
// not count, nor does one that only a protected backup lies in. Once the count
// is reached the rest is left to coarser rules; what was passed over before
// that as not the newest of its period is removed for good.
func (r rule) apply(plan []Decision, loc *time.Location) {
	at := func(d *Decision) period { return r.period(moment{time.Unix(d.Time, 0).In(loc)}) }
	covered := map[period]bool{}
	for i := range plan {
		if plan[i].Mark == MarkKeep {
			covered[at(&plan[i])] = true
		}
	}
	chosen := map[period]bool{}
	for i := range plan {
		d := &plan[i]
		if d.Mark != "" {
			continue
		}
		if d.Protected {
			d.Mark = MarkProtected
			continue
		}
		switch p := at(d); {
		case covered[p]:
		case chosen[p]:
			d.Mark = MarkRemove
		case len(chosen) >= r.count:
			return
		default:
			chosen[p] = true
			d.Mark, d.Rule = MarkKeep, r.name
		}
	}
}

// finish gives the rest its mark. Protection stands above all else, also for
// an unfinished backup.
func finish(plan []Decision, rest Mark) {
	for i := range plan {
		if d := &plan[i]; d.Protected {
			d.Mark, d.Rule = MarkProtected, ""
		} else if d.Mark == "" {
			d.Mark = rest
		}
	}
}
