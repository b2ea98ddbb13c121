package host

import (
	"context"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A usage says how full a datastore is, was, and when it will be full (§7.3).
type usage struct {
	Store   string     `json:"store"`
	Mount   string     `json:"mount-status"`
	Backend string     `json:"backend-type"`
	Total   *int64     `json:"total,omitempty"`
	Used    *int64     `json:"used,omitempty"`
	Avail   *int64     `json:"avail,omitempty"`
	Error   string     `json:"error,omitempty"`
	GC      any        `json:"gc-status,omitempty"`
	Start   int64      `json:"history-start,omitempty"`
	Delta   int64      `json:"history-delta,omitempty"`
	History []*float64 `json:"history,omitempty"` // parts of the whole, 0 to 1; null: nothing is known

	// Full is when the datastore will be full if it goes on like this, in Unix
	// seconds; 0: never.
	Full *int64 `json:"estimated-full-date,omitempty"`
}

func (a *api) usage(_ context.Context, c *rest.Call) (any, error) {
	list := []usage{}
	for _, name := range a.Stores.Names() {
		switch {
		case c.May(mayKnow, "datastore", name):
			list = append(list, a.usageOf(name))
		case c.MayBelow(mayKnow, "datastore", name):
			list = append(list, usage{Store: name, Mount: a.Stores.MountStatus(name), Backend: "filesystem"})
		}
	}
	return list, nil
}

func (a *api) usageOf(name string) usage {
	u := usage{Store: name, Mount: a.Stores.MountStatus(name), Backend: "filesystem"}
	room, err := a.Stores.Room(name)
	if err != nil {
		u.Error = err.Error()
		return u
	}
	s := shownSpace(room)
	u.Total, u.Used, u.Avail = &s.Total, &s.Used, &s.Avail
	if u.GC, err = a.GCStatus(name); err != nil {
		u.Error = err.Error()
	}
	month, err := history.ParseFrame("month")
	if err != nil {
		return u
	}
	total, use := storePrefix+name+totalSuffix, storePrefix+name+used
	points := a.History.Points(time.Now(), month, false, total, use)
	for _, p := range points {
		var part *float64
		if all := p.Figures[total]; all > 0 {
			v := p.Figures[use] / all
			part = &v
		}
		u.History = append(u.History, part)
	}
	u.Start, u.Delta = points[0].Time, points[1].Time-points[0].Time
	u.Full = fullAt(u.Start, u.Delta, u.History)
	return u
}

// fewest is how many figures it takes to say something of the future.
const fewest = 10

// fullAt fits a line to how full something was, by least squares, and returns
// when it reaches the top: 0 if never, nil if too little is known.
func fullAt(start, delta int64, parts []*float64) *int64 {
	var n, sx, sy, sxx, sxy float64
	for i, p := range parts {
		if p != nil {
			x := float64(i)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+*p, sxx+x*x, sxy+x**p
		}
	}
	spread := n*sxx - sx*sx
	if n < fewest || spread == 0 {
		return nil
	}
	slope := (n*sxy - sx*sy) / spread
	at := int64(0)
	if slope > 0 {
		x := (1 - (sy-slope*sx)/n) / slope
		if far := float64(int64(1)<<40) / float64(delta); x < far { // beyond, nobody cares
			at = max(start+int64(x*float64(delta)), 1)
		}
	}
	return &at
}
