package prices

import (
	"fmt"
	"slices"
)

// A Budget is what a month may come to. Zero is without bound.
type Budget struct {
	Money    float64 // in the provider's currency, storage too
	EgressGB float64 // that is read from the bucket
	Requests float64
	Action   Action // when one of them is used up
}

// An Action is what a budget does that is used up. Backups and restores go on
// in any case.
type Action string

// The actions.
const (
	Warn Action = "warn" // tell people
	Slow Action = "slow" // have offloads, audits and verifications make one request a second
	Stop Action = "stop" // end them, and let none begin until the month is over
)

// ParseBudget reads "money=20,egress-gb=100,requests=1000000,action=stop"; "" is
// no budget. The default of action is warn.
func ParseBudget(text string) (b Budget, err error) {
	b.Action = Warn
	if text == "" {
		return b, nil
	}
	fields := map[string]*float64{"money": &b.Money, "egress-gb": &b.EgressGB, "requests": &b.Requests}
	err = pairs(text, func(name, value string) (err error) {
		if name == "action" {
			if b.Action = Action(value); !slices.Contains([]Action{Warn, Slow, Stop}, b.Action) {
				err = fmt.Errorf("action %q is none of warn, slow, stop", value)
			}
			return err
		}
		field := fields[name]
		if field == nil {
			return fmt.Errorf("there is no budget %q", name)
		}
		*field, err = amount(value)
		return err
	})
	return b, err
}

// CheckBudget says what is wrong with a budget that somebody gives. Zero is one of it:
// it reads like "nothing may be spent" and has always been no bound at all.
func CheckBudget(text string) error {
	b, err := ParseBudget(text)
	if err != nil || text == "" {
		return err
	}
	err = pairs(text, func(name, value string) error {
		if n, err := amount(value); name != "action" && err == nil && n == 0 {
			return fmt.Errorf("%s=0 is no budget: leave it out for no bound; for next to nothing say %s=0.01,action=stop, which stops all but backups, restores and garbage collections", name, name)
		}
		return nil
	})
	if err == nil && b.Action != Warn && b == (Budget{Action: b.Action}) {
		err = fmt.Errorf("action=%s without a bound does nothing: add money=20, egress-gb=100 or requests=1000000", b.Action)
	}
	return err
}

// A Line says how far a budget is used.
type Line struct {
	What     string  `json:"what"` // "money", "egress-gb", "requests"
	Limit    float64 `json:"limit"`
	Used     float64 `json:"used"`
	Forecast float64 `json:"forecast"` // at the end of the month
}

// Near is the share of a budget from which on people are told.
const Near = 0.8

// Over tells whether it is used up.
func (l Line) Over() bool { return l.Used >= l.Limit }

// Near tells whether it soon is, or will be in this month.
func (l Line) Near() bool { return l.Used >= Near*l.Limit || l.Forecast > l.Limit }

// Lines compares what was used, and what will have been used, with b.
func (b Budget) Lines(used, forecast Use, cost, will Cost) (lines []Line) {
	add := func(what string, limit, used, forecast float64) {
		if limit > 0 {
			lines = append(lines, Line{what, limit, used, forecast})
		}
	}
	total := func(u Use) (n float64) {
		for _, k := range u.Requests {
			n += float64(k)
		}
		return n
	}
	add("money", b.Money, cost.Total(), will.Total())
	add("egress-gb", b.EgressGB, gb(used.In), gb(forecast.In))
	add("requests", b.Requests, total(used), total(forecast))
	return lines
}
