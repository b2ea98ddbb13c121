// Package bucket talks to one bucket of an S3 store, and believes it nothing.
//
// A call here either did what it says or fails with a reason: bodies are
// counted, stalled transfers are cut and resumed, a listing that may be short
// is an error and not a short listing, and a conditional write whose answer was
// lost finds out who won. Every attempt passes the limiter of its [Account]
// and is counted there by [Class].
//
//	account.go  credentials, limits, counters    errors.go  what went wrong
//	bucket.go   the configuration                limit/     how fast we may be
//	object.go   put, get, head, delete           list.go    listings
//	retry.go    one attempt, and the next        probe.go   what the store can do
//	policy.go   what the provider does by itself
package bucket

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
)

// Config says which bucket, and how to reach it. The zero value of an optional
// field means the default written beside it.
type Config struct {
	// Endpoint is a URL, or a host for https. {{bucket}} and {{region}} in it
	// are replaced; with {{bucket}} in the host the bucket is not put in front
	// of it again.
	Endpoint  string
	Region    string // required; "auto" for stores that have none, such as R2
	Bucket    string // required
	Prefix    string // in front of every key, "" or ending in "/"
	PathStyle bool   // the bucket as the first part of the path, not of the host

	Account  *Account      // required: shared by all buckets of the same credentials
	Can      Capabilities  // what [Bucket.Probe] found; the zero value relies on nothing
	Storage  string        // storage class of packs; default: the bucket's
	Lock     lock.Policy   // for how long nobody may delete what is kept; default: not at all
	Attempts int           // tries of each request; default 6
	Stall    time.Duration // time in which a transfer must move 16 KiB; default 30 seconds
	Backoff  time.Duration // wait before the second try, doubled up to 20 seconds; default 250 ms
	Log      *slog.Logger  // default: discard
}

func (c Config) withDefaults() (Config, error) {
	c.Attempts = cmp.Or(c.Attempts, 6)
	c.Stall = cmp.Or(c.Stall, 30*time.Second)
	c.Backoff = cmp.Or(c.Backoff, 250*time.Millisecond)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Prefix != "" && !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	switch {
	case c.Account == nil:
		return c, errors.New("bucket: no account")
	case c.Bucket == "":
		return c, errors.New("bucket: no name")
	case c.Region == "":
		return c, fmt.Errorf("bucket %s: no region; use auto where the store has none", c.Bucket)
	case strings.HasPrefix(c.Prefix, "/") || strings.Contains(c.Prefix, "//"):
		return c, fmt.Errorf("bucket %s: prefix %q has an empty part", c.Bucket, c.Prefix)
	}
	return c, nil
}

// A Bucket is a bucket, or the part of one below a prefix. Its methods may be
// called concurrently.
type Bucket struct {
	cfg    Config
	client *s3.Client
	host   string
	plain  bool // without TLS
}

// New returns the bucket that cfg describes. It sends nothing.
func New(cfg Config) (*Bucket, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	base, inHost, err := cfg.baseURL()
	if err != nil {
		return nil, err
	}
	b := &Bucket{cfg: cfg, host: base.Host, plain: base.Scheme == "http"}
	acc := cfg.Account
	b.client = s3.New(s3.Options{
		Region:      cfg.Region,
		Credentials: acc,
		HTTPClient:  &counted{acc: acc},
		Retryer:     aws.NopRetryer{}, // retry.go decides, and counts

		// By default the SDK wraps bodies in aws-chunked trailers, which half
		// of all stores refuse; sums are set by us, as plain headers.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,

		EndpointResolverV2:                        &resolver{base: *base, bucket: cfg.Bucket, region: cfg.Region, path: cfg.PathStyle, inHost: inHost},
		ContinueHeaderThresholdBytes:              -1,
		DisableLogOutputChecksumValidationSkipped: true,
	})
	return b, nil
}

// baseURL fills in the endpoint and tells whether the bucket is in its host.
func (c Config) baseURL() (base *url.URL, inHost bool, err error) {
	at := c.Endpoint
	if at == "" {
		at = "s3.{{region}}.amazonaws.com"
	}
	if !strings.Contains(at, "://") {
		at = "https://" + at
	}
	inHost = strings.Contains(at, "{{bucket}}")
	at = strings.NewReplacer("{{bucket}}", c.Bucket, "{{region}}", c.Region).Replace(at)
	base, err = url.Parse(at)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("bucket %s: endpoint %q: %w", c.Bucket, c.Endpoint, err)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "", base.RawQuery != "", base.User != nil:
		return nil, false, fmt.Errorf("bucket %s: endpoint %q is not the URL of a store", c.Bucket, c.Endpoint)
	case strings.Contains(at, "{{"):
		return nil, false, fmt.Errorf("bucket %s: endpoint %q has a placeholder other than {{bucket}} and {{region}}", c.Bucket, c.Endpoint)
	}
	return base, inHost, nil
}

// String names the place for messages.
func (b *Bucket) String() string {
	return fmt.Sprintf("bucket %s at %s", strings.TrimSuffix(b.cfg.Bucket+"/"+b.cfg.Prefix, "/"), b.host)
}

// URL returns the address of the store, for people who want to try it.
func (b *Bucket) URL() string {
	if b.plain {
		return "http://" + b.host
	}
	return "https://" + b.host
}

// Can returns what the store is known to be able to do.
func (b *Bucket) Can() Capabilities { return b.cfg.Can }

// StorageClass is the class of packs; "" is the default of the bucket.
func (b *Bucket) StorageClass() string { return b.cfg.Storage }

// Account returns the account that pays for the requests.
func (b *Bucket) Account() *Account { return b.cfg.Account }

// With returns the same bucket, relying on what a probe found.
func (b *Bucket) With(can Capabilities) *Bucket {
	other := *b
	other.cfg.Can = can
	return &other
}

// Sub returns the part of b below prefix.
func (b *Bucket) Sub(prefix string) *Bucket {
	other := *b
	other.cfg.Prefix += strings.Trim(prefix, "/") + "/"
	return &other
}

func (b *Bucket) key(k string) *string { return aws.String(b.cfg.Prefix + k) }
func (b *Bucket) name() *string        { return aws.String(b.cfg.Bucket) }
