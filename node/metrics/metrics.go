// Package metrics tells Prometheus how a node does. The names are a contract;
// docs/monitoring.md has them all.
package metrics

import (
	"crypto/x509"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// Stores are the datastores of the node.
type Stores interface {
	Names() []string
	Get(name string) (*catalog.Datastore, error)
	Room(name string) (disk.Space, error)
}

// Config says what there is to tell. Every field is required.
type Config struct {
	Version, Name, Site string
	Stores              Stores
	Tasks               *jobs.Manager
	Sessions            func(store string) (backups, readers int)
	Connections         func() (open, refused int)
	Certificate         func() *x509.Certificate
	Ready               func() error
	Health              func() map[string]Health // by datastore; "": the node
	Bills               func() []Bill            // of S3 clients
}

// Metrics are those of one node. It is an [http.Handler].
type Metrics struct {
	http.Handler
	requests *prometheus.HistogramVec
	begun    *prometheus.CounterVec
}

// New returns Metrics. It starts nothing.
func New(cfg Config) (*Metrics, error) {
	m := &Metrics{requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "holdfast_http_request_duration_seconds",
		Help: "Time in which requests of the API were answered. Sessions of backups and readers are none.",
		// From what memory answers to the timeouts of clients.
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 7, 30, 120},
	}, []string{"method", "path", "status"}), begun: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_sessions_begun_total", Help: "Sessions that have begun since the start: backup or reader.",
	}, []string{"kind"})}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holdfast_build_info", Help: "1; the version is in the label.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "name": cfg.Name, "site": cfg.Site},
	})
	build.Set(1)
	r := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		build, m.requests, m.begun, &nodeCollector{cfg}, &storeCollector{cfg}, &taskCollector{cfg}, &doctorCollector{cfg}, &billCollector{cfg},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	m.Handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m, nil
}

// Observe counts a request, as [rest.Config] wants it. A session, which lasts
// for hours, would say nothing about how fast requests are answered.
func (m *Metrics) Observe(method, path string, status int, took time.Duration) {
	if status == http.StatusSwitchingProtocols {
		m.begun.WithLabelValues(strings.TrimPrefix(path, "/")).Inc()
		return
	}
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		method = "other" // a client must not make series
	}
	m.requests.WithLabelValues(method, path, strconv.Itoa(status)).Observe(took.Seconds())
}

// desc describes a series.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

// gauge is one value of a series.
func gauge[N int | int64 | float64](ch chan<- prometheus.Metric, d *prometheus.Desc, value N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
}

// counter is one value of a series that only grows.
func counter[N int | int64 | uint64 | float64](ch chan<- prometheus.Metric, d *prometheus.Desc, value N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}
