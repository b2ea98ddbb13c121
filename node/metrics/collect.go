package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-mesh/holdfast/jobs"
)

// nodeCollector tells about the node as a whole.
type nodeCollector struct{ cfg Config }

var (
	readyDesc       = desc("ready", "1 if the node takes backups and serves restores, else 0.")
	connsDesc       = desc("connections", "Open connections to the API, sessions too.")
	refusedDesc     = desc("connections_refused_total", "Connections that were closed at once, since there were too many.")
	certificateDesc = desc("certificate_not_after_timestamp_seconds", "When the certificate ends, in Unix time.")
)

func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, connsDesc, refusedDesc, certificateDesc} {
		ch <- d
	}
}

func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	ready := 1
	if c.cfg.Ready() != nil {
		ready = 0
	}
	gauge(ch, readyDesc, ready)
	open, refused := c.cfg.Connections()
	gauge(ch, connsDesc, open)
	counter(ch, refusedDesc, refused)
	gauge(ch, certificateDesc, c.cfg.Certificate().NotAfter.Unix())
}

// storeCollector tells about each datastore. All of it is known without
// reading the disk.
type storeCollector struct{ cfg Config }

var (
	upDesc         = desc("datastore_up", "1 if the datastore is open and in service, else 0.", "store")
	totalDesc      = desc("datastore_total_bytes", "Size of the file system of the datastore.", "store")
	availDesc      = desc("datastore_available_bytes", "Free space of the file system of the datastore.", "store")
	chunksDesc     = desc("datastore_chunks", "Chunks in the datastore, garbage too.", "store")
	condemnedDesc  = desc("datastore_condemned_chunks", "Chunks that are garbage, whose space was not given back yet.", "store")
	quarantineDesc = desc("datastore_quarantined_chunks", "Chunks that were found damaged.", "store")
	packsDesc      = desc("datastore_packs", "Pack files of the datastore.", "store")
	packBytesDesc  = desc("datastore_pack_bytes", "Bytes of the pack files, holes too.", "store")
	failuresDesc   = desc("datastore_read_failures_total", "Reads of chunks that failed since the start.", "store")
	sessionsDesc   = desc("sessions", "Running sessions: backup or reader.", "store", "kind")
)

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, totalDesc, availDesc, chunksDesc, condemnedDesc, quarantineDesc, packsDesc, packBytesDesc, failuresDesc, sessionsDesc} {
		ch <- d
	}
}

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	for _, name := range c.cfg.Stores.Names() {
		backups, readers := c.cfg.Sessions(name)
		gauge(ch, sessionsDesc, backups, name, "backup")
		gauge(ch, sessionsDesc, readers, name, "reader")
		d, err := c.cfg.Stores.Get(name)
		if err != nil {
			gauge(ch, upDesc, 0, name)
			continue
		}
		up := 1
		if d.Settings().Maintenance.Mode != "" {
			up = 0
		}
		gauge(ch, upDesc, up, name)
		if space, err := c.cfg.Stores.Room(name); err == nil {
			gauge(ch, totalDesc, space.TotalBytes, name)
			gauge(ch, availDesc, space.FreeBytes, name)
		}
		s := d.Chunks()
		gauge(ch, chunksDesc, s.Len(), name)
		gauge(ch, condemnedDesc, s.Condemned().Len(), name)
		gauge(ch, quarantineDesc, s.Quarantined().Len(), name)
		counter(ch, failuresDesc, s.Failures(), name)
		packs, bytes := s.Packs(), int64(0)
		for _, p := range packs {
			bytes += p.Bytes
		}
		gauge(ch, packsDesc, len(packs), name)
		gauge(ch, packBytesDesc, bytes, name)
	}
}

// taskCollector tells about tasks, by type and datastore.
type taskCollector struct{ cfg Config }

var (
	runningDesc = desc("tasks_running", "Tasks that have not ended.", "type", "store")
	lastEndDesc = desc("task_last_end_timestamp_seconds", "When the last task of its type and state ended on a datastore, in Unix time.", "type", "store", "state")
)

func (c *taskCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- runningDesc
	ch <- lastEndDesc
}

func (c *taskCollector) Collect(ch chan<- prometheus.Metric) {
	type kind struct{ typ, store, state string }
	running, last := map[kind]int{}, map[kind]int64{}
	tasks, _ := c.cfg.Tasks.List(jobs.Filter{})
	known := map[string]bool{}
	for _, name := range c.cfg.Stores.Names() {
		known[name] = true
	}
	for _, i := range tasks {
		k := kind{typ: i.UPID.Type, state: string(i.State)}
		// What a task works on begins with its datastore, if it works on one.
		if store, _, _ := strings.Cut(i.UPID.ID, ":"); known[store] {
			k.store = store
		}
		if i.State == jobs.Running {
			running[k]++
		} else {
			last[k] = max(last[k], i.End.Unix())
		}
	}
	for k, n := range running {
		gauge(ch, runningDesc, n, k.typ, k.store)
	}
	for k, at := range last {
		gauge(ch, lastEndDesc, at, k.typ, k.store, k.state)
	}
}
