package metrics

import "github.com/prometheus/client_golang/prometheus"

// A Bill is what an S3 client was asked, and what that costs.
type Bill struct {
	Client         string
	Requests       map[string]int64 // by class, since the counters were reset
	Failed         int64            // of these, most of which were tried again
	In, Out        int64
	Throttled      int64
	Known          bool    // what the provider charges
	Cost, Forecast float64 // of this month, so far and at its end
	Budget         map[string]float64
}

// billCollector tells what S3 stores were asked, and what it costs.
type billCollector struct{ cfg Config }

var (
	askedDesc     = desc("s3_requests_total", "Requests to an S3 store since the counters of its endpoint were reset.", "endpoint", "class")
	failedDesc    = desc("s3_requests_failed_total", "Of these, those that failed and those that were not answered; most were tried again.", "endpoint")
	movedDesc     = desc("s3_bytes_total", "Bytes that were read from (in) and written to (out) an S3 store since then.", "endpoint", "direction")
	throttledDesc = desc("s3_throttled_total", "Replies of an S3 store that asked us to slow down, since then.", "endpoint")
	costDesc      = desc("s3_month_cost", "What this month costs so far, in the currency of the provider.", "endpoint")
	willCostDesc  = desc("s3_month_cost_forecast", "What this month will have cost at its end.", "endpoint")
	budgetDesc    = desc("s3_budget_used_ratio", "Share of a budget of this month that is used: money, egress-gb or requests.", "endpoint", "budget")
)

func (c *billCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{askedDesc, failedDesc, movedDesc, throttledDesc, costDesc, willCostDesc, budgetDesc} {
		ch <- d
	}
}

func (c *billCollector) Collect(ch chan<- prometheus.Metric) {
	for _, b := range c.cfg.Bills() {
		for class, n := range b.Requests {
			counter(ch, askedDesc, n, b.Client, class)
		}
		counter(ch, failedDesc, b.Failed, b.Client)
		counter(ch, movedDesc, b.In, b.Client, "in")
		counter(ch, movedDesc, b.Out, b.Client, "out")
		counter(ch, throttledDesc, b.Throttled, b.Client)
		if b.Known {
			gauge(ch, costDesc, b.Cost, b.Client)
			gauge(ch, willCostDesc, b.Forecast, b.Client)
		}
		for what, share := range b.Budget {
			gauge(ch, budgetDesc, share, b.Client, what)
		}
	}
}
