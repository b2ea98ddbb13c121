package prices

// A Retrieval is what it costs, and how long it takes, until an archived object
// can be read.
type Retrieval struct {
	Hours    int     // at most, as the provider says
	PerGB    float64 // USD
	Requests float64 // USD per 1,000
}

// RetrievalsDate is when the list prices of retrievals were published that are
// known here: AWS, us-east-1. Other providers have none that is known.
const RetrievalsDate = "2025-06-01"

// retrievals are by class and tier.
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
	r, is := retrievals[class][tier]
	return r, is
}

// Cost is what it costs to retrieve so many objects.
func (r Retrieval) Cost(objects, bytes int64) float64 {
	return float64(objects)/1000*r.Requests + gb(bytes)*r.PerGB
}
