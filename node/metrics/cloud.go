package metrics

import "github.com/prometheus/client_golang/prometheus"

// cloudCollector tells about the buckets of datastores. The bucket is asked
// nothing for it.
type cloudCollector struct{ cfg Config }

var (
	ownedDesc      = desc("cloud_owned", "1 if the bucket of the datastore is ours to write, else 0.", "store")
	cloudBytesDesc = desc("cloud_bytes", "Bytes of packs in the bucket.", "store")
	cloudDeadDesc  = desc("cloud_dead_bytes", "Of these, bytes of chunks that nothing needs.", "store")
	cloudPacksDesc = desc("cloud_packs", "Packs in the bucket.", "store")
	lostDesc       = desc("cloud_lost_packs", "Packs that the bucket should have and has not.", "store")
	waitingDesc    = desc("cloud_waiting_packs", "Packs that wait for the bucket.", "store")
	boundDesc      = desc("cloud_cache_bound_bytes", "Bytes of disk that the cache may take.", "store")
	usedDesc       = desc("cloud_cache_used_bytes", "Bytes of disk that the cache takes.", "store")
	hitsDesc       = desc("cloud_cache_hits_total", "Chunks that the cache had.", "store")
	missesDesc     = desc("cloud_cache_misses_total", "Chunks that it had not.", "store")
	keepCostDesc   = desc("cloud_monthly_cost", "What keeping the bytes costs in a month by the list of prices, if those of the provider are known.", "store", "currency")
)

func (c *cloudCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		ownedDesc, cloudBytesDesc, cloudDeadDesc, cloudPacksDesc,
		lostDesc, waitingDesc, boundDesc, usedDesc, hitsDesc, missesDesc, keepCostDesc,
	} {
		ch <- d
	}
}

func (c *cloudCollector) Collect(ch chan<- prometheus.Metric) {
	for _, name := range c.cfg.Stores.Names() {
		s, ok := c.cfg.Stores.Cloud(name)
		if !ok {
			continue
		}
		owned := 1
		if s.ReadOnly != "" {
			owned = 0
		}
		gauge(ch, ownedDesc, owned, name)
		gauge(ch, cloudBytesDesc, s.Bytes, name)
		gauge(ch, cloudDeadDesc, s.Dead, name)
		gauge(ch, cloudPacksDesc, s.Packs, name)
		gauge(ch, lostDesc, s.Lost, name)
		gauge(ch, waitingDesc, s.Waiting, name)
		gauge(ch, boundDesc, s.Cache.Bound, name)
		gauge(ch, usedDesc, s.Cache.Used, name)
		counter(ch, hitsDesc, s.Cache.Hits, name)
		counter(ch, missesDesc, s.Cache.Misses, name)
		if s.Monthly != nil {
			gauge(ch, keepCostDesc, s.Monthly.Amount, name, s.Monthly.Currency)
		}
	}
}
