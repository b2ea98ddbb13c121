package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// usageFile lies beside the secrets.
const usageFile = "s3-usage.json"

// openBook opens what was counted before. One that is damaged is put aside, since no
// backup is to fail for a bill: what the runs that were kept have made counts instead, so
// that a budget which is used up stays so.
func openBook(dir string, runs *usage.Runs) (*usage.Book, error) {
	file := filepath.Join(dir, usageFile)
	b, err := usage.Open(disk.OS{}, file)
	if err == nil {
		return b, nil
	}
	if err := os.Rename(file, file+damaged); err != nil {
		return nil, err
	}
	if b, err = usage.Open(disk.OS{}, file); err != nil {
		return nil, err
	}
	for _, r := range runs.List(func(usage.Run) bool { return true }) {
		b.Add(r.Client, r.Ended, usage.Count{Use: r.Made})
	}
	return b, b.Save()
}

// damaged is what the name of a book ends with that was put aside. While it is there
// people are told.
const damaged = ".damaged"

func putAside(dir string) error {
	file := filepath.Join(dir, usageFile+damaged)
	info, err := os.Stat(file)
	if err != nil {
		return nil
	}
	return fmt.Errorf("%s was damaged: of what was asked before %s only the tasks that were kept count; look at the provider's bill, and delete %s then",
		usageFile, info.ModTime().UTC().Format(time.DateTime), file)
}

// runsFile has what work on buckets was to take, and took.
const runsFile = "s3-runs.json"

// openRuns opens the runs that were kept. Those that are damaged are put aside.
func openRuns(dir string) (*usage.Runs, error) {
	file := filepath.Join(dir, runsFile)
	r, err := usage.OpenRuns(disk.OS{}, file)
	if err != nil {
		if err := os.Rename(file, file+damaged); err != nil {
			return nil, err
		}
		r, err = usage.OpenRuns(disk.OS{}, file)
	}
	return r, err
}

// Keep keeps a run on a bucket of a client, with what it costs.
func (c *Clients) Keep(id string, r usage.Run) error {
	client, _ := c.settings.State().S3Client(id)
	p, _, err := ProviderOf(client)
	if r.Client = id; err == nil {
		r = r.Priced(p)
	}
	return c.runs.Add(r)
}

// Runs are those that were kept, the newest first: of a client, unless that is "",
// and of one task, unless that is "".
func (c *Clients) Runs(id, task string) []usage.Run {
	return c.runs.List(func(r usage.Run) bool { return (id == "" || r.Client == id) && (task == "" || r.Task == task) })
}

// saveEvery is how much of what was asked a crash may forget.
const saveEvery = 30 * time.Second

// Run writes down what is asked of the stores, until ctx is done.
func (c *Clients) Run(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.gather(time.Now())
			if err := c.book.Save(); err != nil {
				c.mu.Lock()
				c.unsaved = err // told with the next bill
				c.mu.Unlock()
			}
		}
	}
}

// gather notes what the accounts have counted since it did last.
func (c *Clients) gather(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.accounts {
		count := usage.Of(a.Stats())
		c.book.Add(a.of.ID, now, count.Minus(a.noted))
		a.noted = count
	}
}

// Usage is the book of a client, up to this moment.
func (c *Clients) Usage(id string, now time.Time) usage.Account {
	c.gather(now)
	return c.book.Account(id)
}

// ResetCounters begins the total of a client anew; months, and so budgets, stay.
func (c *Clients) ResetCounters(id string) error {
	if _, ok := c.settings.State().S3Client(id); !ok {
		return upgrade.Errorf(http.StatusBadRequest, "no such s3 client '%s'", id)
	}
	c.gather(time.Now())
	c.book.Reset(id, time.Now())
	return c.book.Save()
}

// ProviderOf returns what a client's provider charges and allows; false: that is
// not known.
func ProviderOf(client settings.S3Client) (prices.Provider, bool, error) {
	p, known := prices.ByID(client.Provider)
	if client.Provider == "" {
		p, known = prices.Of(nil, host(client.Endpoint), "")
	}
	if client.Prices == "" {
		return p, known, nil
	}
	p, err := p.With(client.Prices, time.Now())
	if err != nil {
		err = fmt.Errorf("prices of S3 client %s: %w", client.ID, err)
	}
	return p, true, err
}

// Doubts are why the book may be wrong: it could not be written, or read.
func (c *Clients) Doubts() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.unsaved, putAside(c.dir))
}

// closeBook writes down the rest.
func (c *Clients) closeBook() error {
	c.gather(time.Now())
	if err := c.book.Save(); err != nil {
		return errors.Join(errors.New("what was asked of S3 stores is not written down"), err)
	}
	return nil
}
