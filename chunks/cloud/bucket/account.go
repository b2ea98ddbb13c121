package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/limit"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
)

// AccountConfig says who pays, and what the store allows. The zero value of an
// optional field means the default written beside it.
type AccountConfig struct {
	Key, Secret, Session string  // credentials; Session is optional
	Requests             float64 // per second, of all kinds together; default: until the store complains
	BytesIn, BytesOut    float64 // per second; default: no limit
	Conns                int     // transfers at the same time, 1 to 128; default 16
	Fingerprint          string  // SHA-256 of the store's certificate, in pairs with colons; default: authorities vouch for it

	Answer time.Duration // how long an answer may take to begin; default 60 seconds

	// DeniedMeansSlow takes 403 for "too many requests", as some providers
	// send it.
	DeniedMeansSlow bool

	Quiet  time.Duration     // how long a store may be silent before somebody is told; default 8 seconds
	Notice func(text string) // is told of a store that does not answer, unless a context says who is; see [Notify]
}

// An Account is a set of credentials with one limiter and one set of counters,
// shared by every bucket and every job that uses them.
type Account struct {
	cfg     AccountConfig
	http    *http.Client
	limit   *limit.Limiter // requests
	in, out *limit.Limiter // bytes
	stats   counters
	skew    atomic.Int64
}

// NewAccount returns an account. It sends nothing.
func NewAccount(cfg AccountConfig) (*Account, error) {
	cfg.Conns = cmp.Or(cfg.Conns, 16)
	cfg.Answer = cmp.Or(cfg.Answer, 60*time.Second)
	cfg.Quiet = cmp.Or(cfg.Quiet, 8*time.Second)
	var err error
	if cfg.Fingerprint, err = pin.Parse(cfg.Fingerprint); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if cfg.Notice != nil {
		cfg.Notice = sparingly(cfg.Notice)
	}
	switch {
	case cfg.Key == "" || cfg.Secret == "":
		return nil, errors.New("account: no credentials")
	case cfg.Conns < 1 || cfg.Conns > 128:
		return nil, errors.New("account: connections must be 1 to 128")
	case cfg.Requests < 0 || cfg.BytesIn < 0 || cfg.BytesOut < 0:
		return nil, errors.New("account: a limit is negative")
	}
	a := &Account{cfg: cfg, limit: limit.NewRequests(cfg.Requests), in: limit.New(cfg.BytesIn), out: limit.New(cfg.BytesOut)}
	a.http = &http.Client{
		Transport: newTransport(cfg),
		// A redirect means another region: to follow it would hide that.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// Retrieve implements the SDK's interface for credentials.
func (a *Account) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: a.cfg.Key, SecretAccessKey: a.cfg.Secret, SessionToken: a.cfg.Session, Source: "holdfast"}, nil
}

// Conns is how many transfers are worth having at the same time.
func (a *Account) Conns() int { return a.cfg.Conns }

// Share has the account use a part of the requests that the store allows: others
// have the rest. Without a limit that is known there is nothing to share but what
// each learns.
func (a *Account) Share(part float64) {
	if a.cfg.Requests > 0 {
		a.limit.Limit(max(a.cfg.Requests*part, limit.Least/4))
	}
}

// Close closes idle connections.
func (a *Account) Close() { a.http.CloseIdleConnections() }

// Skew is how far the store's clock was ahead of ours at the last reply, to
// about a second.
func (a *Account) Skew() time.Duration { return time.Duration(a.skew.Load()) }

// Stats returns the counters as they are now.
func (a *Account) Stats() Stats { return a.stats.snapshot(a.limit) }

// A Class is a kind of request, as bills tell them apart.
type Class uint8

// The classes.
const (
	Put Class = iota
	Get
	Head
	List
	Delete
	Restore
	classes
)

var classNames = [...]string{"put", "get", "head", "list", "delete", "restore"}

func (c Class) String() string { return classNames[c] }

// Stats are counters since the start.
type Stats struct {
	Requests  map[string]int64 `json:"requests"` // attempts by class
	Failed    map[string]int64 `json:"failed"`   // of these, errors of any kind
	Retries   int64            `json:"retries"`
	Throttled int64            `json:"throttled"` // replies that asked us to slow down
	Stalls    int64            `json:"stalls"`    // transfers cut because nothing moved
	BytesIn   int64            `json:"bytes-in"`
	BytesOut  int64            `json:"bytes-out"`
	Rate      float64          `json:"rate"` // requests per second allowed now; 0: no limit
}

// Total is the sum of all requests.
func (s Stats) Total() (n int64) {
	for _, c := range s.Requests {
		n += c
	}
	return n
}

type counters struct {
	requests, errors           [classes]atomic.Int64
	retries, throttled, stalls atomic.Int64
	bytesIn, bytesOut          atomic.Int64
}

func (c *counters) add(class Class, sent int64) {
	c.requests[class].Add(1)
	c.bytesOut.Add(max(0, sent))
}

func (c *counters) failed(class Class) { c.errors[class].Add(1) }

func (c *counters) snapshot(l *limit.Limiter) Stats {
	s := Stats{
		Requests: map[string]int64{}, Failed: map[string]int64{},
		Retries: c.retries.Load(), Throttled: c.throttled.Load(), Stalls: c.stalls.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), Rate: l.Now(),
	}
	for i := range classes {
		s.Requests[i.String()] = c.requests[i].Load()
		s.Failed[i.String()] = c.errors[i].Load()
	}
	return s
}
