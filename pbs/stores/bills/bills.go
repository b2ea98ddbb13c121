// Package bills says what S3 clients were asked, and what it costs.
package bills

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
)

// A Bill says what an S3 client was asked, and what this month costs.
type Bill struct {
	ID         string                 `json:"id"`
	Provider   string                 `json:"provider,omitempty"` // ""; what it charges is not known
	PricesOf   string                 `json:"prices-of,omitempty"`
	Currency   string                 `json:"currency,omitempty"`
	Stored     int64                  `json:"stored-bytes"` // by the datastores of this node
	Objects    int64                  `json:"stored-objects"`
	Datastores []string               `json:"datastores"`
	Month      string                 `json:"month"`
	SoFar      usage.Count            `json:"so-far"`
	Forecast   usage.Count            `json:"forecast"` // at the end of the month
	Cost       prices.Cost            `json:"cost"`     // so far; storage of the whole month
	WillCost   prices.Cost            `json:"forecast-cost"`
	Action     prices.Action          `json:"budget-action,omitempty"`
	Budget     []prices.Line          `json:"budget,omitempty"`
	Since      time.Time              `json:"since,omitzero"` // when the counters were reset
	Total      usage.Count            `json:"total"`          // since then
	Months     map[string]usage.Count `json:"months"`
	Error      string                 `json:"error,omitempty"`
}

// Over says which budget is used up; "": none.
func (b Bill) Over() string {
	for _, l := range b.Budget {
		if l.Over() {
			return fmt.Sprintf("%s of S3 client %s: %.2f of %.2f are used this month", l.What, b.ID, l.Used, l.Limit)
		}
	}
	return ""
}
