package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Health is what the doctor found last: how many findings of each severity.
type Health struct {
	At       time.Time
	Findings map[string]int
}

// doctorCollector tells what the doctor found, of the node and of buckets.
type doctorCollector struct{ cfg Config }

var (
	findingsDesc = desc("doctor_findings", "Findings of the doctor by severity: of the bucket of a datastore, or of the node if there is none.", "store", "severity")
	examinedDesc = desc("doctor_last_timestamp_seconds", "When the doctor last looked, in Unix time.", "store")
)

func (c *doctorCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- findingsDesc
	ch <- examinedDesc
}

func (c *doctorCollector) Collect(ch chan<- prometheus.Metric) {
	for store, h := range c.cfg.Health() {
		for severity, n := range h.Findings {
			gauge(ch, findingsDesc, n, store, severity)
		}
		gauge(ch, examinedDesc, h.At.Unix(), store)
	}
}
