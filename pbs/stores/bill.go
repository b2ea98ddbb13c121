package stores

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/bills"
)

// A Bill says what an S3 client was asked, and what this month costs.
type Bill = bills.Bill

// Bills are those of all S3 clients.
func (s *Set) Bills(now time.Time) []Bill {
	list := []Bill{}
	if s.cfg.Clouds == nil {
		return list
	}
	for _, client := range s.cfg.Settings.State().S3Clients {
		list = append(list, s.bill(client, now))
	}
	return list
}

func (s *Set) bill(client settings.S3Client, now time.Time) Bill {
	account := s.cfg.Clouds.Usage(client.ID, now)
	b := Bill{ID: client.ID, Month: now.UTC().Format("2006-01"), Since: account.Since, Total: account.Total, Months: account.Months, Datastores: []string{}}
	b.SoFar, b.Forecast = account.Forecast(now)
	for _, d := range s.cfg.Settings.State().Datastores {
		if d.Backend.Client != client.ID {
			continue
		}
		b.Datastores = append(b.Datastores, d.Name)
		if st, ok := s.Cloud(d.Name); ok {
			bytes, objects := st.Billed()
			b.Stored, b.Objects = b.Stored+bytes, b.Objects+objects
		}
	}
	p, known, err := s3.ProviderOf(client)
	budget, err2 := prices.ParseBudget(client.Budget)
	if err := errors.Join(err, err2, s.cfg.Clouds.Doubts()); err != nil {
		b.Error = err.Error()
	}
	if known {
		b.Provider, b.PricesOf, b.Currency = p.Name, p.Date, p.Unit()
		b.Cost, b.WillCost = p.Monthly(b.Stored, b.Objects, b.SoFar.Use), p.Monthly(b.Stored, b.Objects, b.Forecast.Use)
	} else if budget.Money > 0 && b.Error == "" {
		b.Error = "the budget of money bounds nothing, as the provider's prices are not known: give --provider or --prices"
	}
	b.Action, b.Budget = budget.Action, budget.Lines(b.SoFar.Use, b.Forecast.Use, b.Cost, b.WillCost)
	return b
}

// Counted is what the S3 client of a datastore was asked since its counters were
// reset; nothing if it has none.
func (s *Set) Counted(name string) usage.Count {
	d, ok := s.cfg.Settings.State().Datastore(name)
	if !ok || d.Backend.IsZero() || s.cfg.Clouds == nil {
		return usage.Count{}
	}
	return s.cfg.Clouds.Usage(d.Backend.Client, time.Now()).Total
}

// How often work that costs money asks whether there is any left, and how many
// requests it makes a second when there is none and it is to go on.
const (
	affordEvery = 10 * time.Second
	slowPace    = 1
)

// errBroke is why work ends that costs money.
type errBroke struct{ why string }

func (e *errBroke) Error() string { return "the budget is used up: " + e.why }

// Hint is printed on its own line below the error.
func (e *errBroke) Hint() string {
	return "see holdfast s3 endpoint cost; raise it with holdfast s3 endpoint update ID --budget …, or wait for the next month"
}

// afford runs work on a datastore that costs money as long as the budget of its
// S3 client lets it. A datastore without a bucket costs none.
func (s *Set) afford(ctx context.Context, t *jobs.Task, name string, work func(context.Context) error) error {
	d, ok := s.cfg.Settings.State().Datastore(name)
	if !ok || d.Backend.IsZero() || s.cfg.Clouds == nil {
		return work(ctx)
	}
	left := func() (prices.Action, string) {
		client, _ := s.cfg.Settings.State().S3Client(d.Backend.Client)
		b := s.bill(client, time.Now())
		return b.Action, b.Over()
	}
	switch action, over := left(); {
	case over == "":
	case action == prices.Stop:
		return &errBroke{over}
	case action == prices.Slow:
		t.Warnf("the budget is used up, so this makes %d request a second: %s", slowPace, over)
		ctx = bucket.Pace(ctx, slowPace)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(affordEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if action, over := left(); over != "" && action == prices.Stop {
				cancel(&errBroke{over})
			}
		}
	}()
	err := work(ctx)
	var broke *errBroke
	if errors.As(context.Cause(ctx), &broke) {
		err = broke
	}
	cancel(nil)
	<-done
	return err
}

// affordable is [Set.afford] for work that a schedule runs.
func (s *Set) affordable(name string, work func(context.Context, *jobs.Task) error) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		return s.afford(ctx, t, name, func(ctx context.Context) error { return work(ctx, t) })
	}
}
