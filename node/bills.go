package node

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/node/notices"
	"github.com/holdfast-mesh/holdfast/node/overview"
)

// bills are those of S3 clients as figures.
func (n *Node) bills() (all []metrics.Bill) {
	for _, b := range n.stores.Bills(time.Now()) {
		m := metrics.Bill{
			Client: b.ID, Requests: b.Total.Requests, In: b.Total.In, Out: b.Total.Out, Throttled: b.Total.Throttled, Failed: b.Total.Failed,
			Known: b.Provider != "", Cost: b.Cost.Total(), Forecast: b.WillCost.Total(), Budget: map[string]float64{},
		}
		for _, l := range b.Budget {
			m.Budget[l.What] = l.Used / l.Limit
		}
		all = append(all, m)
	}
	return all
}

// budgets are those of S3 clients.
func (n *Node) budgets() (all []notices.Budget) {
	for _, b := range n.stores.Bills(time.Now()) {
		all = append(all, notices.Budget{Client: b.ID, Month: b.Month, Action: b.Action, Lines: b.Budget})
	}
	return all
}

// spent warns of budgets that are used up, or soon are.
func (n *Node) spent() (list []overview.Warning) {
	for _, b := range n.stores.Bills(time.Now()) {
		hint := "holdfast s3 endpoint cost " + b.ID
		if b.Error != "" {
			list = append(list, overview.Warning{Level: "warning", Node: n.cfg.Name, Text: "the bill of S3 endpoint " + b.ID + ": " + b.Error, Hint: hint})
		}
		for _, l := range b.Budget {
			switch {
			case l.Over():
				list = append(list, overview.Warning{Level: "warning", Node: n.cfg.Name, Text: fmt.Sprintf("the budget of S3 endpoint %s is used up (%s, %s)", b.ID, l.What, b.Action), Hint: hint})
			case l.Near():
				list = append(list, overview.Warning{Level: "warning", Node: n.cfg.Name, Text: fmt.Sprintf("the budget of S3 endpoint %s may not be enough (%s)", b.ID, l.What), Hint: hint})
			}
		}
	}
	return list
}
