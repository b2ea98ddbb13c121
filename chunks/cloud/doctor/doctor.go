// Package doctor finds out what is wrong with a bucket before backups are
// trusted to it, and says how it is cured.
//
// Every check is one row of the notes on S3 (§4.10): what is found, what comes
// of it, and the exact command or rule that cures it. A store that will not
// answer a question is not thereby well: the report says what was not looked
// at.
//
//	doctor.go  the examination      reach.go   endpoint, region, clock, speed, keys
//	report.go  what comes of it     policy.go  lifecycle, versions, locks, access
//	                                local.go   cache, connections, owner, money
package doctor

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/reply"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Config says what is examined. The zero value of an optional field means the
// default written beside it.
type Config struct {
	Bucket *bucket.Bucket    // required
	Own    []prices.Provider // what the operator knows of providers; default: only what is built in

	Node       string        // our name, as in the bucket's owner; default: nobody's
	Reader     bool          // nothing is going to be written, nor is it for the examination
	Store      string        // ID of the store of which the owner is looked at; default: of the first 20
	Grace      time.Duration // how long garbage stays before it is deleted; default 7 days
	Recipients int           // keys that open an encrypted store; default: as the bucket has it
	Cache      *Cache        // default: there is none
	Doomed     []Doomed      // what a garbage collection would delete; default: not known
	GCs        float64       // garbage collections a month that read lists; default: not known

	Pages int // of 1,000 objects each, looked at for their classes; default 40
}

// A Cache is the local copy of a part of the bucket.
type Cache struct {
	Dir    string
	Bound  int64 // bytes that it may take; 0: no bound
	Pinned int64
	Used   int64

	Total, Free int64 // bytes of its file system
	Reserved    int64 // of these, what only root may use
	Inodes      int64 // that are free; -1: as many as wanted
}

// Doomed is garbage of the bucket.
type Doomed struct {
	Bytes int64
	Age   time.Duration
}

// Examine examines a bucket; about 50 requests and 6 MiB, and a page of a list
// for every 1,000 objects. It writes, and removes again, a few objects below
// probe/. It fails only if ctx ends.
func Examine(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Pages = cmp.Or(cfg.Pages, 40)
	cfg.Grace = cmp.Or(cfg.Grace, 7*24*time.Hour)
	x := &exam{Config: cfg, b: cfg.Bucket, began: time.Now(), before: cfg.Bucket.Account().Stats()}
	x.endpoint, x.region, x.name, x.prefix, x.pathStyle = x.b.Place()
	x.provider, x.known = prices.Of(cfg.Own, x.endpoint, x.b.StorageClass())
	for _, c := range checks {
		x.at = c.name
		n, m := len(x.report.Findings), len(x.report.Skipped)
		if x.stop != "" {
			x.skip(x.stop)
			continue
		}
		c.look(ctx, x)
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if len(x.report.Findings) == n && len(x.report.Skipped) == m {
			x.report.Passed = append(x.report.Passed, c.name)
		}
	}
	return x.end(), nil
}

// A check is one thing that can be wrong.
type check struct {
	name string
	look func(context.Context, *exam)
}

// checks are all of them, in an order in which earlier ones explain later ones.
var checks = []check{
	{"endpoint", endpoint},
	{"region", region},
	{"clock", clock},
	{"keys", keys},
	{"rights", rights},
	{"latency", latency},
	{"keepalive", keepalive},
	{"owner", owner},
	{"recovery", recovery},
	{"lifecycle", lifecycle},
	{"tiering", tiering},
	{"classes", classes},
	{"versioning", versioning},
	{"lock", locking},
	{"public", public},
	{"uploads", uploads},
	{"minimum", minimum},
	{"cache", cache},
	{"requests", requests},
}

// Names are the names of all checks.
func Names() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// An exam is an examination that goes on.
type exam struct {
	Config
	b                              *bucket.Bucket
	endpoint, region, name, prefix string
	pathStyle                      bool
	provider                       prices.Provider
	known                          bool // provider is

	began  time.Time
	before bucket.Stats
	at     string // the check that runs
	stop   string // why nothing more can be asked
	conn   bucket.Connection
	policy *bucket.Policies
	stores []format.ID // in the bucket, the first few
	report Report
}

func (x *exam) find(s Severity, text, consequence, cure string) {
	x.report.Findings = append(x.report.Findings, Finding{Check: x.at, Severity: s, Text: text, Consequence: consequence, Cure: cure})
}

func (x *exam) skip(why string) {
	x.report.Skipped = append(x.report.Skipped, Skipped{Check: x.at, Why: why})
}

// asked reports whether a policy was told, and notes why not.
func (x *exam) asked(field, permission string) bool {
	err := x.policy.Failed[field]
	switch {
	case err == nil:
		return true
	case errors.Is(err, bucket.ErrUnsupported) || status(err) == http.StatusNotImplemented:
		x.skip("the store has no such thing")
	case errors.Is(err, bucket.ErrDenied):
		x.skip("the key may not ask; allow it " + permission)
	case errors.Is(err, reply.ErrOther):
		x.find(Warning, "what the store says of it could not be read: "+err.Error(), "Whatever is wrong there, nobody sees.",
			"look at the answer: curl -v "+x.b.URL()+"; if it comes of a proxy or a page to log in at, give the endpoint of the store itself")
		x.skip("the answer could not be read")
	default:
		x.skip(err.Error())
	}
	return false
}

func (x *exam) end() *Report {
	r, after := &x.report, x.b.Account().Stats()
	r.Bucket, r.Time, r.Took = x.b.String(), x.began.UTC(), time.Since(x.began)
	r.Requests = map[string]int64{}
	maps.Copy(r.Requests, after.Requests)
	for class, n := range x.before.Requests {
		r.Requests[class] -= n
	}
	maps.DeleteFunc(r.Requests, func(_ string, n int64) bool { return n == 0 })
	r.BytesIn, r.BytesOut = after.BytesIn-x.before.BytesIn, after.BytesOut-x.before.BytesOut
	if x.known {
		r.Provider = x.provider.Name + ", prices of " + x.provider.Date
	}
	r.sort()
	return r
}
