// Package retention decides which backups of a group are kept.
//
// An operator says how many to keep ([Keep]): the last three, one for each of
// seven days, one for each of four weeks. [Plan] answers for every backup of
// one group whether it stays, and which rule keeps it. Nothing is removed
// here: the plan is a value that can be printed, and package catalog carries
// it out. The rules are those of PBS (PBS protocol notes §8.3), so that the
// same options keep the same backups on either.
package retention

import (
	"errors"
	"fmt"
	"strings"
)

// Keep says how many backups of a group are kept; 0 leaves a rule out. The
// rules apply in the order of the fields, and each counts only periods that
// those before it have not covered.
type Keep struct {
	Last    int `json:"keep-last,omitempty"`    // the newest, whatever their times
	Hourly  int `json:"keep-hourly,omitempty"`  // the newest of each of so many hours
	Daily   int `json:"keep-daily,omitempty"`   // ... calendar days
	Weekly  int `json:"keep-weekly,omitempty"`  // ... ISO weeks, which begin on Monday
	Monthly int `json:"keep-monthly,omitempty"` // ... months
	Yearly  int `json:"keep-yearly,omitempty"`  // ... years
}

// IsZero reports whether no rule is set. Then everything is kept.
func (k Keep) IsZero() bool {
	for _, r := range k.rules() {
		if r.count > 0 {
			return false
		}
	}
	return true
}

// String returns the rules as flags: "--keep-last 3 --keep-daily 7".
func (k Keep) String() string {
	var flags []string
	for _, r := range k.rules() {
		if r.count > 0 {
			flags = append(flags, fmt.Sprintf("--%s %d", r.name, r.count))
		}
	}
	return strings.Join(flags, " ")
}

// Check refuses negative numbers. [Plan] takes them for 0.
func (k Keep) Check() error {
	var errs []error
	for _, r := range k.rules() {
		if r.count < 0 {
			errs = append(errs, fmt.Errorf("%s is %d, want 1 or more, or 0 for no such rule", r.name, r.count))
		}
	}
	return errors.Join(errs...)
}

// A rule keeps the newest backup of each of count periods.
type rule struct {
	name   string
	count  int
	period func(moment) period
}

// rules returns the rules in the order in which they apply.
func (k Keep) rules() [6]rule {
	return [...]rule{
		{"keep-last", k.Last, second},
		{"keep-hourly", k.Hourly, hour},
		{"keep-daily", k.Daily, day},
		{"keep-weekly", k.Weekly, week},
		{"keep-monthly", k.Monthly, month},
		{"keep-yearly", k.Yearly, year},
	}
}
