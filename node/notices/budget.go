package notices

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/notify"
)

const typeBudget = "budget"

// A Budget is that of an S3 client in a month.
type Budget struct {
	Client, Month string
	Action        prices.Action
	Lines         []prices.Line
}

// billsEvery is how often budgets are looked at.
const billsEvery = 5 * time.Minute

// budgetHold is how long the same is not told again: the key has the month.
const budgetHold = 32 * 24 * time.Hour

// ofBudget returns an event for each part that is used up, or soon is.
func ofBudget(b Budget) (all []notify.Event) {
	for _, l := range b.Lines {
		e := notify.Event{Type: typeBudget, Severity: notify.Warning, Fields: map[string]string{"s3-endpoint": b.Client}, Hold: budgetHold,
			Text: fmt.Sprintf("%.2f of %.2f are used, and %.2f will be at the end of %s.\nSee: holdfast s3 endpoint cost %s", l.Used, l.Limit, l.Forecast, b.Month, b.Client)}
		level := "near"
		switch {
		case l.Over():
			level, e.Severity, e.Title = "over", notify.Error, fmt.Sprintf("the budget of S3 endpoint %s is used up: %s", b.Client, l.What)
			e.Text += "\n" + map[prices.Action]string{
				prices.Warn: "Nothing stops because of it.",
				prices.Slow: "Offloads, audits and verifications make one request a second until the month is over. Backups and restores go on as always.",
				prices.Stop: "Offloads, audits and verifications wait until the month is over; new backups stay on the local disk. Backups and restores go on.",
			}[b.Action]
		case l.Near():
			e.Title = fmt.Sprintf("the budget of S3 endpoint %s may not be enough: %s", b.Client, l.What)
		default:
			continue
		}
		e.Key = "budget/" + b.Client + "/" + l.What + "/" + level + "/" + b.Month
		all = append(all, e)
	}
	return all
}
