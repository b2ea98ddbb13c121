package host

import (
	"context"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"time"
)

// A space is the size of a file system as PBS shows it, in bytes.
type space struct {
	Total int64 `json:"total"`
	Used  int64 `json:"used"`
	Avail int64 `json:"avail"`
}

func shownSpace(s disk.Space) space {
	return space{s.TotalBytes, s.Used(), s.FreeBytes}
}

// status is how the machine is (§7.10).
func (a *api) status(context.Context, *rest.Call) (any, error) {
	l := a.Machine.Load()
	root, err := disk.OS{}.Space(a.Root)
	if err != nil {
		return nil, err
	}
	fingerprint := ""
	if a.Certificate != nil {
		fingerprint = a.Certificate().Fingerprint
	}
	return map[string]any{
		"cpu": l.CPU, "wait": l.Wait, "loadavg": l.Average, "uptime": l.Uptime,
		"memory": l.Memory, "swap": l.Swap, "root": shownSpace(root),
		"kversion":       "Linux " + l.Kernel,
		"current-kernel": map[string]string{"sysname": "Linux", "release": l.Kernel, "version": "", "machine": ""},
		"cpuinfo":        map[string]any{"model": l.Model, "sockets": l.Sockets, "cpus": l.CPUs, "mhz": l.MHz},
		"boot-info":      map[string]any{"mode": "legacy-bios"},
		"info":           map[string]string{"fingerprint": fingerprint},
	}, nil
}

// Names of the figures that are recorded.
const (
	cpu, wait, load     = "host/cpu", "host/iowait", "host/loadavg"
	memTotal, memUsed   = "host/memtotal", "host/memused"
	swapTotal, swapUsed = "host/swaptotal", "host/swapused"
	netIn, netOut       = "host/netin", "host/netout"
	rootTotal, rootUsed = "host/roottotal", "host/rootused"
	storePrefix         = "store/"
	totalSuffix, used   = "/total", "/used"
)

// Sample returns the figures that a [history.Recorder] is to keep.
func Sample(m *history.Machine, s Stores, root string) func(context.Context) map[string]float64 {
	return func(context.Context) map[string]float64 {
		l := m.Load()
		f := map[string]float64{
			cpu: l.CPU, wait: l.Wait, load: l.Average[0], netIn: l.In, netOut: l.Out,
			memTotal: float64(l.Memory.Total), memUsed: float64(l.Memory.Used),
			swapTotal: float64(l.Swap.Total), swapUsed: float64(l.Swap.Used),
		}
		if sp, err := (disk.OS{}).Space(root); err == nil { // else there is a gap in the graph
			f[rootTotal], f[rootUsed] = float64(sp.TotalBytes), float64(sp.Used())
		}
		for _, name := range s.Names() {
			if sp, err := s.Room(name); err == nil && sp.TotalBytes > 0 {
				f[storePrefix+name+totalSuffix] = float64(sp.TotalBytes)
				f[storePrefix+name+used] = float64(sp.Used())
			}
		}
		return f
	}
}

// frameOf reads which figures are asked for.
func frameOf(c *rest.Call) (f history.Frame, maxima bool, err error) {
	name, kind := "hour", "AVERAGE"
	if c.Has("timeframe") {
		name = c.Text("timeframe")
	}
	if c.Has("cf") {
		kind = c.Text("cf")
	}
	f, err = history.ParseFrame(name)
	if err != nil {
		c.Fail("timeframe", "%v", err)
	}
	if kind != "AVERAGE" && kind != "MAX" {
		c.Fail("cf", "value '%s' is not defined in the enumeration", kind)
	}
	return f, kind == "MAX", c.Err()
}

// figures returns what was recorded, under the names that clients know.
func (a *api) figures(f history.Frame, maxima bool, shown map[string]string) []map[string]any {
	names := make([]string, 0, len(shown))
	for name := range shown {
		names = append(names, name)
	}
	list := []map[string]any{}
	for _, p := range a.History.Points(time.Now(), f, maxima, names...) {
		item := map[string]any{"time": p.Time}
		for name, v := range p.Figures {
			item[shown[name]] = v
		}
		list = append(list, item)
	}
	return list
}

func (a *api) nodeFigures(_ context.Context, c *rest.Call) (any, error) {
	f, maxima, err := frameOf(c)
	if err != nil {
		return nil, err
	}
	return a.figures(f, maxima, map[string]string{
		cpu: "cpu", wait: "iowait", load: "loadavg", memTotal: "memtotal", memUsed: "memused", swapTotal: "swaptotal",
		swapUsed: "swapused", netIn: "netin", netOut: "netout", rootTotal: "total", rootUsed: "used",
	}), nil
}

// mayKnow is what lets somebody know how full a datastore is.
const mayKnow = access.PrivDatastoreAudit | access.PrivDatastoreBackup

func (a *api) storeFigures(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	f, maxima, err := frameOf(c)
	if err != nil {
		return nil, err
	}
	if err := c.Require(mayKnow, "datastore", store); err != nil {
		return nil, err
	}
	if _, err := a.Stores.Room(store); err != nil {
		return nil, err
	}
	return a.figures(f, maxima, map[string]string{storePrefix + store + totalSuffix: "total", storePrefix + store + used: "used"}), nil
}
