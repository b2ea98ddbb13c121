package host

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A metric is one figure of one moment, as who collects from several servers
// reads it (§7.8). All are gauges: rates are made here.
type metric struct {
	ID    string  `json:"id"` // "host" or "datastore/NAME"
	Name  string  `json:"metric"`
	Time  int64   `json:"timestamp"`
	Type  string  `json:"type"`
	Value float64 `json:"value"`
}

// hostMetrics are the names of what is recorded of the machine.
var hostMetrics = map[string]string{
	cpu: "cpu_current", wait: "cpu_iowait", load: "cpu_avg1", memTotal: "mem_total", memUsed: "mem_used",
	swapTotal: "swap_total", swapUsed: "swap_used", netIn: "net_in", netOut: "net_out", rootTotal: "disk_total", rootUsed: "disk_used",
}

// metricsTime is how far back metrics go.
const metricsTime = 30 * time.Minute

// metrics has the figures that the caller may know: of now, or of the last half
// hour. Whoever may know none gets an empty list.
func (a *api) metrics(_ context.Context, c *rest.Call) (any, error) {
	since, past := moment(c, "start-time").Unix(), c.Bool("history")
	if err := c.Err(); err != nil {
		return nil, err
	}
	list := []metric{}
	if c.May(access.PrivSysAudit, "system", "status") {
		list = a.metricsOf(list, "host", past, hostMetrics)
	}
	for _, name := range a.Stores.Names() {
		if c.May(mayKnow, "datastore", name) {
			list = a.metricsOf(list, "datastore/"+name, past, map[string]string{
				storePrefix + name + totalSuffix: "disk_total", storePrefix + name + used: "disk_used",
			})
		}
	}
	list = slices.DeleteFunc(list, func(m metric) bool { return m.Time <= since })
	slices.SortFunc(list, func(a, b metric) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
	})
	return map[string]any{"data": list}, nil
}

// metricsOf adds what was recorded of one thing, under the names shown.
func (a *api) metricsOf(list []metric, id string, past bool, shown map[string]string) []metric {
	names := make([]string, 0, len(shown))
	for name := range shown {
		names = append(names, name)
	}
	hour, err := history.ParseFrame("hour")
	if err != nil {
		return list
	}
	now := time.Now()
	points := a.History.Points(now, hour, false, names...)
	points = slices.DeleteFunc(points, func(p history.Point) bool {
		return len(p.Figures) == 0 || p.Time < now.Add(-metricsTime).Unix()
	})
	if !past && len(points) > 0 {
		points = points[len(points)-1:]
	}
	for _, p := range points {
		for name, v := range p.Figures {
			list = append(list, metric{id, shown[name], p.Time, "gauge", v})
		}
	}
	return list
}
