package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// money sets what is about money.
func money(p *upgrade.Params, c *settings.S3Client) {
	for name, field := range map[string]*string{"provider": &c.Provider, "prices": &c.Prices, "budget": &c.Budget} {
		if p.Has(name) {
			*field = upgrade.Parsed(p, name, func(text string) (string, error) { return text, checkMoney(name, text) })
		}
	}
}

func checkMoney(name, text string) (err error) {
	switch name {
	case "provider":
		if _, known := prices.ByID(text); !known {
			var ids []string
			for _, p := range prices.Providers() {
				ids = append(ids, p.ID)
			}
			err = fmt.Errorf("%q is none of %v; give prices instead", text, ids)
		}
	case "prices":
		_, err = prices.Provider{}.With(text, time.Now())
	case "budget":
		err = prices.CheckBudget(text)
	}
	return err
}

// bills tells what each S3 client was asked, what that costs, and what the month
// will come to.
func (a *api) bills(context.Context, *rest.Call) (any, error) { return a.Stores.Bills(time.Now()), nil }

// runs tells what tasks were to ask of S3 stores, and asked, the newest first.
func (a *api) runs(_ context.Context, c *rest.Call) (any, error) {
	client, task := optional(c.Params, "client"), optional(c.Params, "upid")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return a.Clients.Runs(client, task), nil
}

// resetCounters begins the counters of a client anew, as PBS does; months stay.
func (a *api) resetCounters(_ context.Context, c *rest.Call) (any, error) {
	id := clientID(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Clients.ResetCounters(id)
}
