package prices

import "strings"

// A Retrieval is what it costs, and how long it usually takes, until an archived
// object can be read.
type Retrieval struct {
	Hours    int     // the longest that the provider calls typical, rounded up
	PerGB    float64 // USD
	Requests float64 // USD per 1,000
}

// RetrievalsDate is the month of the prices by the gigabyte: AWS, us-east-1. Those
// of requests have no date in their sources. Other providers have none that is known.
const RetrievalsDate = "2026-05-01"

// retrievals are by class and tier. Hours, and that Bulk from GLACIER is free: "Archive
// retrieval options" in the Amazon S3 User Guide (Expedited: 1 to 5 minutes for what
// is below 250 MB, as packs are). Requests from GLACIER, and Standard by the gigabyte:
// the AWS knowledge center, "manage data retrieval costs". The others: what Infracost, a
// price calculator, has recorded of AWS's price list. All those by the gigabyte are
// also in a table of May 2026 (usage.ai).
var retrievals = map[string]map[string]Retrieval{
	"GLACIER": {
		"Bulk": {12, 0, 0}, "Standard": {5, 0.01, 0.05}, "Expedited": {1, 0.03, 10},
	},
	"DEEP_ARCHIVE": {
		"Bulk": {48, 0.0025, 0.025}, "Standard": {12, 0.02, 0.1},
	},
}

// RetrievalOf returns what it takes to read an object of a class; false: that
// tier is not offered for it, or the class is no archive.
func RetrievalOf(class, tier string) (Retrieval, bool) {
	r, is := retrievals[strings.ToUpper(class)][tier]
	return r, is
}

// Cost is what it costs to retrieve so many objects.
func (r Retrieval) Cost(objects, bytes int64) float64 {
	return float64(objects)/1000*r.Requests + gb(bytes)*r.PerGB
}
