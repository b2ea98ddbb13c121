package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Run is a piece of work on a bucket: what it was to take, and what it took.
// Bytes are those of objects.
type Run struct {
	Task   string    `json:"upid"`
	Type   string    `json:"type"`
	Store  string    `json:"store"`
	Client string    `json:"client"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Failed bool      `json:"failed,omitempty"` // or was cut off

	Forecast *prices.Use `json:"forecast,omitempty"` // nil: nothing was said before
	Made     prices.Use  `json:"made"`

	Provider     string  `json:"provider,omitempty"` // "": what it charges is not known
	PricesOf     string  `json:"prices-of,omitempty"`
	Currency     string  `json:"currency,omitempty"`
	ForecastCost float64 `json:"forecast-cost,omitempty"`
	Cost         float64 `json:"cost,omitempty"` // of the requests and of what was read
}

// Priced is r with what it costs; a provider without an ID is one whose prices are
// not known.
func (r Run) Priced(p prices.Provider) Run {
	if p.ID == "" {
		return r
	}
	r.Provider, r.PricesOf, r.Currency, r.Cost = p.Name, p.Date, p.Unit(), p.Once(r.Made).Total()
	if r.Forecast != nil {
		r.ForecastCost = p.Once(*r.Forecast).Total()
	}
	return r
}

// keepRuns are kept, the newest.
const keepRuns = 500

// Runs are the last runs of a node. Methods may be called concurrently.
type Runs struct {
	fsys disk.FS
	file string

	mu   sync.Mutex
	list []Run
}

// OpenRuns reads the runs that were kept; there are none in a file that is not there.
func OpenRuns(fsys disk.FS, file string) (*Runs, error) {
	r := &Runs{fsys: fsys, file: file}
	body, err := disk.ReadFile(fsys, file, maxBook)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		r.list, err = parseRuns(body)
	}
	if err != nil {
		return nil, fmt.Errorf("runs on S3 stores: %s: %w", file, err)
	}
	return r, nil
}

func parseRuns(body []byte) (list []Run, err error) {
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	return list[max(0, len(list)-keepRuns):], nil
}

// Add keeps a run, durably.
func (r *Runs) Add(run Run) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list[max(0, len(r.list)-keepRuns+1):len(r.list):len(r.list)], run)
	body, err := json.Marshal(r.list)
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(r.fsys, r.file, body, 0o600)
}

// List returns the runs that keep wants, the newest first.
func (r *Runs) List(keep func(Run) bool) []Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Run{}
	for _, run := range slices.Backward(r.list) {
		if keep(run) {
			list = append(list, run)
		}
	}
	return list
}
