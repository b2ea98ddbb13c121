package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// An S3Client says how an S3 store is reached. Its secret key is not here, but
// in a file of its own (package s3).
type S3Client struct {
	ID        string `json:"id"`
	Endpoint  string `json:"endpoint"` // may contain {{bucket}} and {{region}}
	Port      int    `json:"port,omitempty"`
	Region    string `json:"region,omitempty"` // "auto" where the store has none; default us-east-1
	AccessKey string `json:"access-key"`
	PathStyle bool   `json:"path-style,omitempty"`

	// Fingerprint is the SHA-256 of the store's certificate, if no authority that this
	// machine knows has signed it.
	Fingerprint string `json:"fingerprint,omitempty"`

	PutRateLimit int    `json:"put-rate-limit,omitempty"` // requests a second, of all kinds
	RateIn       string `json:"rate-in,omitempty"`        // bytes a second: "10 MiB"
	RateOut      string `json:"rate-out,omitempty"`

	Provider string `json:"provider,omitempty"` // ours: whose prices are meant; default: by the endpoint
	Prices   string `json:"prices,omitempty"`   // ours: what is known better: "storage=0.006,egress=0"
	Budget   string `json:"budget,omitempty"`   // ours: of a month: "money=20,action=stop"

	// DeniedMeansSlow takes 403 for "too many requests"; ours.
	DeniedMeansSlow bool `json:"denied-means-slow,omitempty"`
}

// S3Client returns the client of that ID.
func (s *State) S3Client(id string) (S3Client, bool) {
	i := slices.IndexFunc(s.S3Clients, func(c S3Client) bool { return c.ID == id })
	if i < 0 {
		return S3Client{}, false
	}
	return s.S3Clients[i], true
}

// A Backend is a bucket above the directory of a datastore. As text it is a
// property string: "type=s3,client=ID,bucket=NAME".
type Backend struct {
	Client       string
	Bucket       string
	Prefix       string        // in front of all keys
	CacheSize    int64         // bytes
	CacheDir     string        // "": below the datastore
	After        time.Duration // chunks are so old when they leave the disk
	Schedule     string        // of offloads; "": a default
	Audit        string        // when the bucket is audited; "": a default
	ReadOnly     bool          // the bucket is another node's
	SingleWriter bool          // the store cannot keep two writers apart, and need not
	Lock         lock.Policy   // for how long nobody can delete objects
}

// Account names who pays where, in the same words for every node that means the same.
func (c S3Client) Account() string { return c.host() + " " + c.AccessKey }

// host is where an endpoint is, without what differs from bucket to bucket.
func (c S3Client) host() string {
	host := strings.ToLower(c.Endpoint)
	if _, after, found := strings.Cut(host, "://"); found {
		host = after
	}
	host = strings.NewReplacer("{{bucket}}.", "", "{{region}}", strings.ToLower(c.Region)).Replace(strings.TrimSuffix(host, "/"))
	if c.Port != 0 {
		host = fmt.Sprintf("%s:%d", host, c.Port)
	}
	return host
}

// BucketOf says where the bucket of a datastore is, in the same words for every node
// that means the same; "" if it has none.
func (s *State) BucketOf(d Datastore) string {
	c, is := s.S3Client(d.Backend.Client)
	if d.Backend.IsZero() || !is {
		return ""
	}
	return strings.TrimSuffix(c.host()+"/"+d.Backend.Bucket+"/"+d.Backend.Prefix, "/")
}

// IsZero reports whether there is no bucket.
func (b Backend) IsZero() bool { return b == Backend{} }

// MarshalText writes b as a property string.
func (b Backend) MarshalText() ([]byte, error) {
	text := "type=s3,client=" + b.Client + ",bucket=" + b.Bucket
	add := func(name, value string) {
		if value != "" {
			text += "," + name + "=" + value
		}
	}
	yes := func(on bool) string {
		if on {
			return "1"
		}
		return ""
	}
	add("prefix", b.Prefix)
	if b.CacheSize > 0 {
		add("max-cache-size", strconv.FormatInt(b.CacheSize, 10))
	}
	add("cache-dir", b.CacheDir)
	if b.After > 0 {
		add("offload-after", b.After.String())
	}
	add("offload-schedule", b.Schedule)
	add("audit-schedule", b.Audit)
	add("read-only", yes(b.ReadOnly))
	add("single-writer", yes(b.SingleWriter))
	add("object-lock", b.Lock.String())
	return []byte(text), nil
}

// UnmarshalText reads what MarshalText writes.
func (b *Backend) UnmarshalText(text []byte) error {
	var next Backend
	if s := string(text); s == "" || s == "filesystem" || s == "type=filesystem" {
		*b = next
		return nil
	}
	for i, part := range strings.Split(string(text), ",") {
		name, value, found := strings.Cut(part, "=")
		if !found && i == 0 {
			name, value = "type", part
		}
		if err := next.Set(name, value); err != nil {
			return fmt.Errorf("backend: %w", err)
		}
	}
	if next.Client == "" || next.Bucket == "" {
		return fmt.Errorf("backend: it has no client or no bucket")
	}
	*b = next
	return nil
}

// Set sets one property.
func (b *Backend) Set(name, value string) (err error) {
	flag := func(field *bool) (err error) {
		*field, err = ParseFlag(value)
		return err
	}
	event := func() (string, error) {
		_, err := jobs.ParseEvent(value)
		return value, err
	}
	switch name {
	case "type":
		if value != "s3" {
			err = fmt.Errorf("type is %q, want s3 or filesystem", value)
		}
	case "client":
		b.Client = value
	case "bucket":
		b.Bucket = value
	case "prefix":
		b.Prefix = strings.Trim(value, "/")
	case "max-cache-size":
		b.CacheSize, err = ParseSize(value)
	case "cache-dir":
		if b.CacheDir = value; !strings.HasPrefix(value, "/") {
			err = fmt.Errorf("cache-dir %q is not absolute", value)
		}
	case "offload-after":
		b.After, err = ParseAge(value)
	case "offload-schedule":
		b.Schedule, err = event()
	case "audit-schedule":
		b.Audit, err = event()
	case "read-only":
		err = flag(&b.ReadOnly)
	case "object-lock":
		b.Lock, err = lock.Parse(value)
	case "single-writer":
		err = flag(&b.SingleWriter)
	default:
		err = fmt.Errorf("there is no property %q", name)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// ParseFlag reads what is on or off.
func ParseFlag(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off: give 1, true, yes or on, or 0, false, no or off", text)
}

// MinCache is the least bound of a cache that is of use, in bytes.
const MinCache = 64 << 20

// CheckCache refuses a bound of the cache that is too small to be meant.
func (b Backend) CheckCache() error {
	if b.CacheSize > 0 && b.CacheSize < MinCache {
		return fmt.Errorf("a cache of %d bytes is too small to be of use: give at least 64MiB, with its unit, or 0 for no cache", b.CacheSize)
	}
	return nil
}

// maxPrefix bounds a prefix in bytes: with a key of ours behind it, it has to fit into
// the 1,024 that S3 allows, and often into the path of a file at the other side.
const maxPrefix = 200

// CheckPrefix fails for a prefix that stores, or what stands before them, take for
// another one: they resolve a path with dots or empty parts in it, or refuse it.
func CheckPrefix(prefix string) error {
	prefix = strings.Trim(prefix, "/")
	if len(prefix) > maxPrefix {
		return fmt.Errorf("a prefix of %d bytes: at most %d", len(prefix), maxPrefix)
	}
	for part := range strings.SplitSeq(prefix, "/") {
		switch {
		case prefix == "":
		case part == "":
			return fmt.Errorf("prefix %q has an empty part: write a/b, with one slash", prefix)
		case part == "." || part == "..":
			return fmt.Errorf("prefix %q has a part %q, which many stores resolve as a path: it would be another place", prefix, part)
		case strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
			return fmt.Errorf("prefix %q has a control character or a backslash in it", prefix)
		}
	}
	return nil
}

// CheckEndpoint fails for what is not the address of an S3 store.
func CheckEndpoint(text string) error {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "https", text
	}
	host, _, _ := strings.Cut(rest, "/")
	switch {
	case scheme != "http" && scheme != "https":
		return fmt.Errorf("endpoint %q: %s:// is not spoken by S3 stores: write https://HOST, or HOST alone", text, scheme)
	case host == "" || strings.HasPrefix(host, ":"):
		return fmt.Errorf("endpoint %q has no host: write https://HOST", text)
	case strings.ContainsAny(rest, "?#@"):
		return fmt.Errorf("endpoint %q: keys and settings do not belong in it: write https://HOST[:PORT]", text)
	}
	return nil
}

// ParseAge reads "0", "7d" or "36h".
func ParseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 3650 {
			return 0, fmt.Errorf("%q is no number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s is negative", text)
	}
	return d, err
}

// ParseSize reads bytes: "64GiB", "500MB", "1048576".
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, " BKMGTPbkmgtpi")
	unit := strings.ToUpper(strings.TrimSpace(text[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	base := 1000.0
	if strings.Contains(unit, "I") {
		base = 1024
	}
	unit = strings.NewReplacer("I", "", "B", "").Replace(unit)
	if len(unit) > 1 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	if unit != "" {
		n *= math.Pow(base, float64(1+strings.Index("KMGTP", unit)))
	}
	if n > 1<<60 {
		return 0, fmt.Errorf("%q is too much", text)
	}
	return int64(n), nil
}
