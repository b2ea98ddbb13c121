// Package usage keeps the books of S3 accounts: what was asked of each store, day
// by day, so that a restart forgets nothing, and what the month will come to.
package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Count is what was done with an account in some time.
type Count struct {
	prices.Use
	Failed    int64 `json:"failed,omitempty"`    // of the requests
	Retries   int64 `json:"retries,omitempty"`   // likewise
	Throttled int64 `json:"throttled,omitempty"` // replies that asked us to slow down
}

func (c *Count) add(o Count) {
	if c.Requests == nil {
		c.Requests = map[string]int64{}
	}
	for class, n := range o.Requests {
		c.Requests[class] += n
	}
	c.In, c.Out, c.Failed, c.Retries, c.Throttled = c.In+o.In, c.Out+o.Out, c.Failed+o.Failed, c.Retries+o.Retries, c.Throttled+o.Throttled
}

// clone returns a Count that shares nothing with c.
func (c Count) clone() (n Count) {
	n.add(c)
	return n
}

// Total is the number of all requests.
func (c Count) Total() (n int64) {
	for _, k := range c.Requests {
		n += k
	}
	return n
}

// Of returns what an account has counted since its start.
func Of(s bucket.Stats) Count {
	c := Count{Use: prices.Use{Requests: maps.Clone(s.Requests), In: s.BytesIn, Out: s.BytesOut}, Retries: s.Retries, Throttled: s.Throttled}
	for _, n := range s.Failed {
		c.Failed += n
	}
	return c
}

// Minus is what was added to before until c.
func (c Count) Minus(before Count) Count {
	d := Count{Use: prices.Use{Requests: map[string]int64{}, In: c.In - before.In, Out: c.Out - before.Out},
		Failed: c.Failed - before.Failed, Retries: c.Retries - before.Retries, Throttled: c.Throttled - before.Throttled}
	for class, n := range c.Requests {
		if n -= before.Requests[class]; n != 0 {
			d.Requests[class] = n
		}
	}
	return d
}

// An Account is the book of one account.
type Account struct {
	First  time.Time        `json:"first"` // when the book began
	Since  time.Time        `json:"since"` // when Total began
	Total  Count            `json:"total"`
	Days   map[string]Count `json:"days"`   // "2026-11-29", in UTC
	Months map[string]Count `json:"months"` // "2026-11"
}

// How much of the past is kept.
const (
	keepDays   = 62
	keepMonths = 36
)

const monthForm = "2006-01"

// add notes what was done just before now.
func (a *Account) add(now time.Time, c Count) {
	now = now.UTC()
	a.Total.add(c)
	for of, key := range map[*map[string]Count]string{&a.Days: now.Format(time.DateOnly), &a.Months: now.Format(monthForm)} {
		if *of == nil {
			*of = map[string]Count{}
		}
		sum := (*of)[key]
		sum.add(c)
		(*of)[key] = sum
	}
	first := now.AddDate(0, 0, -keepDays).Format(time.DateOnly)
	maps.DeleteFunc(a.Days, func(day string, _ Count) bool { return day < first })
	first = now.AddDate(0, -keepMonths, 0).Format(monthForm)
	maps.DeleteFunc(a.Months, func(month string, _ Count) bool { return month < first })
}

const week = 7

// Forecast returns what this month has had, and what it will have had at its end
// if each day to come is like the same day of the week before: jobs come round
// by the week. As long as the book is younger, each is like the mean of all.
func (a Account) Forecast(now time.Time) (soFar, month Count) {
	now = now.UTC()
	soFar = a.Months[now.Format(monthForm)].clone()
	month = soFar.clone()
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for day := today; day.Month() == now.Month(); day = day.AddDate(0, 0, 1) {
		share := 1.0
		if day.Equal(today) {
			share = 1 - now.Sub(today).Hours()/24
		}
		month.add(a.like(day, today, now).times(share))
	}
	return soFar, month
}

// like returns what a day to come is like.
func (a Account) like(day, today, now time.Time) Count {
	for ; !day.Before(today); day = day.AddDate(0, 0, -week) {
	}
	if day.After(a.First) {
		return a.Days[day.Format(time.DateOnly)]
	}
	var sum Count
	for _, c := range a.Days {
		sum.add(c)
	}
	// An hour's figures say nothing of a day.
	return sum.times(24 / max(now.Sub(a.First).Hours(), 24))
}

func (c Count) times(f float64) Count {
	n := func(v int64) int64 { return int64(float64(v) * f) }
	out := Count{Use: prices.Use{Requests: map[string]int64{}, In: n(c.In), Out: n(c.Out)}, Failed: n(c.Failed), Retries: n(c.Retries), Throttled: n(c.Throttled)}
	for class, k := range c.Requests {
		out.Requests[class] = n(k)
	}
	return out
}

// A Book has the accounts of a node. Methods may be called concurrently.
type Book struct {
	fsys disk.FS
	file string

	mu       sync.Mutex
	accounts map[string]*Account
	changed  bool
}

// maxBook bounds the file, in bytes: an account has some 20 KiB.
const maxBook = 16 << 20

// Open reads a book; one that is not there is empty.
func Open(fsys disk.FS, file string) (*Book, error) {
	b := &Book{fsys: fsys, file: file, accounts: map[string]*Account{}}
	body, err := disk.ReadFile(fsys, file, maxBook)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		b.accounts, err = parse(body)
	}
	if err != nil {
		return nil, fmt.Errorf("what was asked of S3 stores: %s: %w", file, err)
	}
	return b, nil
}

func parse(body []byte) (map[string]*Account, error) {
	var all map[string]*Account
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	if all == nil {
		all = map[string]*Account{}
	}
	maps.DeleteFunc(all, func(_ string, a *Account) bool { return a == nil })
	return all, nil
}

// Add notes what was done with an account just before now.
func (b *Book) Add(id string, now time.Time, c Count) {
	if c.Total() == 0 && c.In == 0 && c.Out == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.accounts[id] == nil {
		b.accounts[id] = &Account{First: now.UTC(), Since: now.UTC()}
	}
	b.accounts[id].add(now, c)
	b.changed = true
}

// Account returns a copy of what is known of an account.
func (b *Book) Account(id string) Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[id]
	if a == nil {
		return Account{}
	}
	c := Account{First: a.First, Since: a.Since, Total: a.Total.clone(), Days: map[string]Count{}, Months: map[string]Count{}}
	for day, n := range a.Days {
		c.Days[day] = n.clone()
	}
	for month, n := range a.Months {
		c.Months[month] = n.clone()
	}
	return c
}

// Reset begins the total of an account anew. Days and months stay: bills and
// budgets are made of them.
func (b *Book) Reset(id string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[id]; a != nil {
		a.Since, a.Total, b.changed = now.UTC(), Count{}, true
	}
}

// Save writes the book if it has changed.
func (b *Book) Save() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.changed {
		return nil
	}
	body, err := json.Marshal(b.accounts)
	if err == nil {
		err = disk.WriteFileAtomic(b.fsys, b.file, body, 0o600)
	}
	b.changed = err != nil
	return err
}
