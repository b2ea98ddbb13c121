package tier

import (
	"context"
	"errors"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
)

// Adopt brings chunks of another store on this disk into the bucket, and calls
// pin when the bucket has confirmed them, before a collection may look at them.
// Cut off at any moment it leaves chunks in the bucket that nothing names yet: they
// are found there by whoever wants them next, or collected.
func (t *Tier) Adopt(ctx context.Context, loads []staging.Load, pin func() error) (s staging.Sent, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	defer func() { t.disown(err) }()
	if err := t.own(ctx); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.noted()) }()
	return t.store.Adopt(ctx, loads, pin)
}

// Publish sends what waits, and tells the bucket of snapshots whose chunks are all
// there. Nothing leaves the disk that was not on its way. With nothing to tell the
// bucket is asked nothing.
func (t *Tier) Publish(ctx context.Context) (m Mirrored, err error) {
	t.work.Lock()
	defer t.work.Unlock()
	defer func() { t.disown(err) }()
	if err := t.own(ctx); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, t.noted()) }()
	if m, err = t.mirror(ctx); err != nil {
		return m, err
	}
	return m, t.store.Flush(ctx, t.d.Collector().Relocate)
}

// Encrypted reports whether everything in the bucket is encrypted.
func (t *Tier) Encrypted() bool { return t.store.Encrypted() }

// Bill is what a bucket costs, by a list of prices.
type Bill struct {
	Provider string  `json:"provider"`
	Date     string  `json:"prices-of"`
	Currency string  `json:"currency"`
	Amount   float64 `json:"amount"`
	Text     string  `json:"text"` // the amount for people
}

func bill(p prices.Provider, amount float64) *Bill {
	return &Bill{Provider: p.Name, Date: p.Date, Currency: p.Unit(), Amount: amount, Text: p.Money(amount)}
}

// Estimate is what requests cost, and to keep so many bytes more for a month; nil
// if the provider's prices are not known.
func (t *Tier) Estimate(u prices.Use, stored, objects int64) (once, monthly *Bill) {
	p := t.cfg.Provider
	if p.ID == "" {
		return nil, nil
	}
	more := p.Monthly(stored, objects, prices.Use{}).Storage
	if p.MinimumGB > 0 { // that is billed whether we are there or not
		more = float64(stored) / 1e9 * p.Storage
	}
	return bill(p, p.Once(u).Total()), bill(p, more)
}

// Monthly is what the bucket costs in a month as it is now, without requests.
func (t *Tier) Monthly() *Bill {
	p := t.cfg.Provider
	if p.ID == "" {
		return nil
	}
	bytes, objects := t.store.Stats().Billed()
	return bill(p, p.Monthly(bytes, objects, prices.Use{}).Storage)
}
