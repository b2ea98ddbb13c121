package doctor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A scene is a bucket with something wrong with it. Real providers answer the
// questions about policies; no test server does, so the proxy has the answers.
type scene struct {
	replies map[string]string // by the name of the question, as in the query
	codes   map[string]string // errors instead
	fault   func(cloudtest.Request) *cloudtest.Fault
	delay   time.Duration
	region  string // header of every reply
	put     map[string]string
	classes map[string]string // of keys, in listings
	cfg     func(*Config)
	bucket  func(*bucket.Config)
}

func wantLock(c *bucket.Config) { c.Lock = lock.Policy{Mode: lock.Governance, Days: 60} }

// healthy are the answers of a bucket as it should be.
var healthy = map[string]string{
	"lifecycle":           `<LifecycleConfiguration><Rule><ID>mpu</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>`,
	"intelligent-tiering": `<ListBucketIntelligentTieringConfigurationsOutput><IsTruncated>false</IsTruncated></ListBucketIntelligentTieringConfigurationsOutput>`,
	"versioning":          `<VersioningConfiguration/>`,
	"policyStatus":        `<PolicyStatus><IsPublic>false</IsPublic></PolicyStatus>`,
	"publicAccessBlock":   `<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`,
	"encryption":          `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`,
	"uploads":             `<ListMultipartUploadsResult><Bucket>backups</Bucket></ListMultipartUploadsResult>`,
	"object-lock":         ``,
	"policy":              ``,
	"acl":                 ``,
}

var absent = map[string]string{"object-lock": "ObjectLockConfigurationNotFoundError", "policy": "AccessDenied", "acl": "AccessDenied"}

func rule(inner string) map[string]string {
	return map[string]string{"lifecycle": `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>` + inner + `</Rule></LifecycleConfiguration>`}
}

func move(days int, class string) string {
	return fmt.Sprintf(`<Transition><Days>%d</Days><StorageClass>%s</StorageClass></Transition>`, days, class)
}

// hook answers as the scene says.
func (s scene) hook(r cloudtest.Request) *cloudtest.Fault {
	f := &cloudtest.Fault{Header: map[string]string{"x-amz-bucket-region": cloudtest.Region}}
	if s.region != "" {
		f.Header["x-amz-bucket-region"] = s.region
	}
	if s.fault != nil {
		if got := s.fault(r); got != nil {
			if got.Header == nil {
				got.Header = f.Header
			}
			return got
		}
	}
	if r.HTTP.Method == http.MethodGet {
		for name := range healthy {
			if r.HTTP.URL.Query().Has(name) {
				return s.answer(f, name)
			}
		}
	}
	if r.Class == "list" && s.classes != nil {
		f.Rewrite = func(body []byte) []byte {
			text := string(body)
			for key, class := range s.classes {
				head, tail, ok := strings.Cut(text, "<Key>"+key+"</Key>")
				if ok {
					text = head + "<Key>" + key + "</Key>" + strings.Replace(tail, "<StorageClass>STANDARD<", "<StorageClass>"+class+"<", 1)
				}
			}
			return []byte(text)
		}
	}
	return f
}

func (s scene) answer(f *cloudtest.Fault, name string) *cloudtest.Fault {
	code := s.codes[name]
	if code == "" && s.replies[name] == "" {
		code = absent[name]
	}
	switch code {
	case "":
		f.Reply = healthy[name]
		if own, ok := s.replies[name]; ok {
			f.Reply = own
		}
	case "AccessDenied":
		f.Status, f.Code = http.StatusForbidden, code
	case "NotImplemented":
		f.Status, f.Code = http.StatusNotImplemented, code
	default:
		f.Status, f.Code = http.StatusNotFound, code
	}
	return f
}

func examine(t *testing.T, s scene) (*Report, *cloudtest.Proxy) {
	t.Helper()
	server.Empty(t)
	p := cloudtest.Front(t, server)
	b := cloudtest.Open(t, p.URL)
	for key, body := range s.put {
		if _, err := b.PutBytes(t.Context(), key, []byte(body), bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
	}
	if s.bucket != nil {
		bc := bucket.Config{Endpoint: p.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true, Account: cloudtest.Account(t, bucket.AccountConfig{}), Attempts: 2, Backoff: time.Millisecond}
		s.bucket(&bc)
		var err error
		if b, err = bucket.New(bc); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Bucket: b, Node: "home"}
	if s.cfg != nil {
		s.cfg(&cfg)
	}
	p.On(s.hook)
	p.Delay(s.delay)
	p.Reset()
	r, err := Examine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

func ownerJSON(t *testing.T, node string, until time.Time) map[string]string {
	t.Helper()
	id := format.ID{1, 2, 3}
	body, err := json.Marshal(layout.Owner{Store: id, Node: node, Epoch: 1, Until: until})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{layout.Root + id.String() + "/" + layout.OwnerKey: string(body)}
}

// formatJSON is an encrypted store that so many keys open.
func formatJSON(t *testing.T, keys int) map[string]string {
	t.Helper()
	var all []age.Recipient
	for range keys {
		k, err := seal.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k.Recipient())
	}
	key := seal.NewKey()
	wrapped, err := key.Wrap(all...)
	if err != nil {
		t.Fatal(err)
	}
	id := format.ID{1, 2, 3}
	body, err := json.Marshal(layout.Format{Format: "holdfast-cloud", Version: layout.Version, Store: id, KeyID: key.ID().String(), Wrapped: wrapped})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{layout.Root + id.String() + "/" + layout.FormatKey: string(body)}
}

const gib = 1 << 30

// Every row of the notes on S3, §4.10, has something that fails and something
// that passes.
func TestEveryCheck(t *testing.T) {
	upload := `<ListMultipartUploadsResult><Bucket>backups</Bucket><Upload><Key>k</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload></ListMultipartUploadsResult>`
	wasabi := []prices.Provider{{ID: "here", Name: "Here", Hosts: []string{"127.0.0.1"}, Date: "2026-01-01", Storage: 0.008, MinimumDays: 90, List: 0.005}}
	slow := func(r cloudtest.Request) *cloudtest.Fault {
		if r.HTTP.Method == http.MethodHead {
			return &cloudtest.Fault{Delay: 110 * time.Millisecond}
		}
		return nil
	}
	refuse := func(class string, status int, code string) func(cloudtest.Request) *cloudtest.Fault {
		return func(r cloudtest.Request) *cloudtest.Fault {
			if r.Class == class {
				return &cloudtest.Fault{Status: status, Code: code}
			}
			return nil
		}
	}
	deny := func(class string) func(cloudtest.Request) *cloudtest.Fault {
		return refuse(class, http.StatusForbidden, "AccessDenied")
	}
	skewed := func(d time.Duration) func(cloudtest.Request) *cloudtest.Fault {
		return func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Skew: d} }
	}
	cached := func(c Cache) func(*Config) { return func(cfg *Config) { cfg.Cache = &c } }
	tests := []struct {
		name, check string
		s           scene
		want        Severity
		cure        string // a part of it
		passes      bool
	}{
		{"healthy", "endpoint", scene{}, 0, "", true},
		{"no such bucket", "endpoint", scene{bucket: func(c *bucket.Config) { c.Bucket = "other" }}, Critical, "create-bucket --bucket other", false},
		{"nobody there", "endpoint", scene{bucket: func(c *bucket.Config) { c.Endpoint = "http://127.0.0.1:1" }}, Critical, "curl -v", false},
		{"a web server", "endpoint", scene{fault: func(cloudtest.Request) *cloudtest.Fault {
			return &cloudtest.Fault{Status: http.StatusFound, Header: map[string]string{"Location": "https://console.example.com/"}}
		}}, Critical, "--endpoint https://HOST", false},
		{"same region", "region", scene{}, 0, "", true},
		{"another region", "region", scene{region: "eu-west-1"}, Warning, "--region eu-west-1", false},
		{"another region, refused", "region", scene{region: "eu-west-1", fault: func(r cloudtest.Request) *cloudtest.Fault {
			return &cloudtest.Fault{Status: http.StatusMovedPermanently, Code: "PermanentRedirect"}
		}}, Critical, "--region eu-west-1", false},
		{"clock", "clock", scene{}, 0, "", true},
		{"clock a minute off", "clock", scene{fault: skewed(time.Minute)}, Warning, "set-ntp", false},
		{"clock ten minutes off", "clock", scene{fault: skewed(-10 * time.Minute)}, Critical, "set-ntp", false},
		{"keys", "keys", scene{}, 0, "", true},
		{"key may not write", "keys", scene{fault: deny("put")}, Critical, `"s3:PutObject"`, false},
		{"another secret", "keys", scene{fault: refuse("put", 403, "SignatureDoesNotMatch")}, Critical, "--secret-key-file", false},
		{"unknown key", "keys", scene{fault: refuse("put", 403, "InvalidAccessKeyId")}, Critical, "--access-key", false},
		{"too much to do", "keys", scene{fault: refuse("put", 503, "SlowDown"), bucket: func(c *bucket.Config) { c.Attempts = 1 }}, Critical, "says nothing about the key", false},
		{"clock refused", "keys", scene{fault: refuse("put", 403, "RequestTimeTooSkewed")}, Critical, "set-ntp", false},
		{"a key for backups", "rights", scene{}, 0, "", true},
		{"a key for everything", "rights", scene{replies: map[string]string{"policy": "{}", "acl": "<AccessControlPolicy></AccessControlPolicy>"}}, Note, `"s3:PutObject"`, false},
		{"bucket gone", "keys", scene{fault: refuse("put", 404, "NoSuchBucket")}, Critical, "make the bucket", false},
		{"key may not list", "keys", scene{fault: deny("list")}, Critical, `"s3:ListBucket"`, false},
		{"key may not delete", "keys", scene{fault: deny("delete")}, Critical, `"s3:DeleteObject"`, false},
		{"near", "latency", scene{}, 0, "", true},
		{"far", "latency", scene{fault: slow}, Warning, "near this site", false},
		{"keepalive", "keepalive", scene{}, 0, "", true},
		{"no harm in rules", "lifecycle", scene{}, 0, "", true},
		{"glacier", "lifecycle", scene{replies: rule(move(14, "GLACIER"))}, Critical, "put-bucket-lifecycle-configuration", false},
		{"deep archive", "lifecycle", scene{replies: rule(move(194, "DEEP_ARCHIVE"))}, Critical, "put-bucket-lifecycle-configuration", false},
		{"instant retrieval", "lifecycle", scene{replies: rule(move(14, "GLACIER_IR"))}, Warning, "put-bucket-lifecycle-configuration", false},
		{"on a date", "lifecycle", scene{replies: rule(`<Transition><Date>2027-03-04T00:00:00.000Z</Date><StorageClass>GLACIER</StorageClass></Transition>`)}, Critical, "put-bucket", false},
		{"a class that nobody knows", "lifecycle", scene{replies: rule(move(3, "Coldish"))}, Warning, "put-bucket", false},
		{"in small letters", "lifecycle", scene{replies: rule(move(3, "glacier"))}, Critical, "put-bucket", false},
		{"no rule at all", "lifecycle", scene{codes: map[string]string{"lifecycle": "NoSuchLifecycleConfiguration"}}, Note, "AbortIncompleteMultipartUpload", false},
		{"infrequent access", "lifecycle", scene{replies: rule(move(30, "STANDARD_IA"))}, Warning, "put-bucket", false},
		{"tiering rule", "lifecycle", scene{replies: rule(move(1, "INTELLIGENT_TIERING"))}, Note, "put-bucket", false},
		{"expiry", "lifecycle", scene{replies: rule(`<Expiration><Days>30</Days></Expiration>`)}, Critical, "put-bucket", false},
		{"somebody else's rule", "lifecycle", scene{replies: map[string]string{"lifecycle": strings.ReplaceAll(rule(move(1, "GLACIER"))["lifecycle"], "<Prefix></Prefix>", "<Prefix>photos/</Prefix>")},
			bucket: func(c *bucket.Config) { c.Prefix = "backup/" }}, 0, "", true},
		{"rule of the old kind", "lifecycle", scene{replies: map[string]string{"lifecycle": `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Prefix>backup</Prefix>` + move(1, "GLACIER") + `</Rule></LifecycleConfiguration>`},
			bucket: func(c *bucket.Config) { c.Prefix = "backup/" }}, Critical, "put-bucket", false},
		{"rule that is off", "lifecycle", scene{replies: map[string]string{"lifecycle": strings.ReplaceAll(rule(move(1, "GLACIER"))["lifecycle"], "Enabled", "Disabled")}}, 0, "", true},
		{"archive tiers", "tiering", scene{replies: map[string]string{"intelligent-tiering": `<ListBucketIntelligentTieringConfigurationsOutput><IntelligentTieringConfiguration><Id>a</Id><Status>Enabled</Status><Tiering><AccessTier>ARCHIVE_ACCESS</AccessTier><Days>90</Days></Tiering></IntelligentTieringConfiguration></ListBucketIntelligentTieringConfigurationsOutput>`}}, Critical, "delete-bucket-intelligent-tiering", false},
		{"no archive tiers", "tiering", scene{}, 0, "", true},
		{"one class", "classes", scene{put: map[string]string{"a": "1"}}, 0, "", true},
		{"archived objects", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "GLACIER"}}, Critical, "restore-object", false},
		{"archived in small letters", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "deep_archive"}}, Critical, "restore-object", false},
		{"restored objects", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "GLACIER</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2037-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus><StorageClass>GLACIER"}}, Warning, "thaw NAME --days", false},
		{"copies that are gone", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "GLACIER</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2017-01-01T00:00:00Z</RestoreExpiryDate></RestoreStatus><StorageClass>GLACIER"}}, Critical, "thaw", false},
		{"a class of objects that nobody knows", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "COLDISH"}}, Warning, "manual", false},
		{"instant objects", "classes", scene{put: map[string]string{"a": "1", "b": "2"}, classes: map[string]string{"b": "GLACIER_IR"}}, Warning, "rule", false},
		{"no versions", "versioning", scene{}, 0, "", true},
		{"versions for ever", "versioning", scene{replies: map[string]string{"versioning": `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`}}, Warning, "NoncurrentVersionExpiration", false},
		{"versions that go", "versioning", scene{replies: map[string]string{"versioning": `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`,
			"lifecycle": rule(`<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>`)["lifecycle"]}}, 0, "", true},
		{"no lock", "lock", scene{}, 0, "", true},
		{"no lock where one is wanted", "lock", scene{bucket: wantLock}, Critical, "--object-lock-enabled-for-bucket", false},
		{"a lock that is wanted", "lock", scene{bucket: wantLock, cfg: func(c *Config) { c.Store = "in use" }, replies: map[string]string{"object-lock": `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`}}, 0, "", true},
		{"lock", "lock", scene{replies: map[string]string{"object-lock": `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>`}}, Warning, "default retention", false},
		{"closed", "public", scene{}, 0, "", true},
		{"open", "public", scene{replies: map[string]string{"policyStatus": `<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>`}, codes: map[string]string{"publicAccessBlock": "NoSuchPublicAccessBlockConfiguration"}}, Critical, "put-public-access-block", false},
		{"nothing encrypted", "public", scene{codes: map[string]string{"encryption": "ServerSideEncryptionConfigurationNotFoundError"}}, Note, "--encrypt", false},
		{"no uploads", "uploads", scene{}, 0, "", true},
		{"uploads", "uploads", scene{replies: map[string]string{"uploads": upload}}, Note, "AbortIncompleteMultipartUpload", false},
		{"our own", "owner", scene{put: ownerJSON(t, "home", time.Now().Add(time.Hour))}, 0, "", true},
		{"somebody's", "owner", scene{put: ownerJSON(t, "dc", time.Now().Add(time.Hour))}, Note, "", false},
		{"nobody's any more", "owner", scene{put: ownerJSON(t, "dc", time.Now().Add(-time.Hour))}, Note, "--reuse-datastore", false},
		{"old garbage", "minimum", scene{cfg: func(c *Config) { c.Own = wasabi; c.Doomed = []Doomed{{gib, 100 * 24 * time.Hour}} }}, 0, "", true},
		{"young garbage", "minimum", scene{cfg: func(c *Config) { c.Own = wasabi; c.Doomed = []Doomed{{412 * gib, 29 * 24 * time.Hour}} }}, Note, "--offload-after", false},
		{"two keys", "recovery", scene{put: formatJSON(t, 2)}, 0, "", true},
		{"one key", "recovery", scene{put: formatJSON(t, 1)}, Critical, "recovery key", false},
		{"cache", "cache", scene{cfg: cached(Cache{Bound: gib, Total: 10 * gib, Free: 5 * gib, Inodes: -1})}, 0, "", true},
		{"cache without a bound", "cache", scene{cfg: cached(Cache{Total: 10 * gib, Free: 5 * gib, Inodes: -1})}, Critical, "--cache-size 3840MiB", false},
		{"cache larger than its disk", "cache", scene{cfg: cached(Cache{Bound: 128 * gib, Total: 120 * gib, Free: 100 * gib, Inodes: -1})}, Critical, "--cache-size 76800MiB", false},
		{"cache larger than what is free", "cache", scene{cfg: cached(Cache{Bound: 64 * gib, Total: 120 * gib, Free: 10 * gib, Inodes: -1})}, Warning, "--cache-size 7680MiB", false},
		{"reserved blocks", "cache", scene{cfg: cached(Cache{Bound: gib, Total: 850 * gib, Free: 300 * gib, Reserved: 36 * gib, Inodes: -1})}, Note, "tune2fs -m 1", false},
		{"few inodes", "cache", scene{cfg: cached(Cache{Bound: gib, Total: 10 * gib, Free: 5 * gib, Inodes: 7})}, Warning, "inodes", false},
		{"few objects", "requests", scene{put: map[string]string{"a": "1"}, cfg: func(c *Config) { c.GCs = 30 }}, 0, "", true},
	}
	failing := map[string]bool{}
	passing := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := examine(t, tt.s)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == tt.check })
			switch {
			case tt.passes && !slices.Contains(r.Passed, tt.check):
				t.Fatalf("%s did not pass: %+v, %+v", tt.check, r.Findings, r.Skipped)
			case tt.passes:
				passing[tt.check] = true
				return
			case i < 0:
				t.Fatalf("%s found nothing; findings %+v, skipped %+v", tt.check, r.Findings, r.Skipped)
			}
			failing[tt.check] = true
			if f := r.Findings[i]; f.Severity != tt.want || !strings.Contains(f.Cure, tt.cure) || f.Consequence == "" {
				t.Errorf("finding %s %q, consequence %q, cure %q; want %s and %q", f.Severity, f.Text, f.Consequence, f.Cure, tt.want, tt.cure)
			}
		})
	}
	failing["keepalive"], failing["requests"] = true, true // tests of their own
	for _, name := range Names() {
		if !failing[name] || !passing[name] {
			t.Errorf("check %s: something that fails %t, something that passes %t", name, failing[name], passing[name])
		}
	}
}

func TestKeepalive(t *testing.T) {
	for _, tt := range []struct {
		k    bucket.KeepAlive
		want int
	}{
		{bucket.KeepAlive{Known: true, On: true, Idle: 7200 * time.Second, Interval: 75 * time.Second, Count: 9}, 1},
		{bucket.KeepAlive{Known: true}, 1},
		{bucket.KeepAlive{Known: true, On: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}, 0},
	} {
		x := &exam{conn: bucket.Connection{KeepAlive: tt.k}}
		if keepalive(t.Context(), x); len(x.report.Findings) != tt.want || len(x.report.Skipped) > 0 {
			t.Errorf("%+v: %+v", tt.k, x.report)
		}
	}
}

func TestRequests(t *testing.T) {
	x := &exam{Config: Config{GCs: 30}}
	x.report.Classes = map[string]Class{"STANDARD": {1_670_000, 1_670_000 << 20}}
	if requests(t.Context(), x); len(x.report.Findings) != 1 || !strings.Contains(x.report.Findings[0].Consequence, "50100 requests a month") {
		t.Errorf("%+v", x.report)
	}
}

// The disaster of the first report that the product grew from, in one bucket.
func TestDisaster(t *testing.T) {
	r, p := examine(t, scene{
		region:  "ap-southeast-2",
		replies: rule(move(14, "GLACIER_IR") + move(104, "GLACIER") + move(194, "DEEP_ARCHIVE")),
		put:     map[string]string{"a": "1", "b": "2", "c": "3"},
		classes: map[string]string{"a": "DEEP_ARCHIVE", "b": "GLACIER", "c": "GLACIER_IR"},
		delay:   50 * time.Millisecond,
		cfg: func(c *Config) {
			c.Cache = &Cache{Dir: "/cache", Total: 850 * gib, Used: 550 * gib, Free: 263 * gib, Reserved: 37 * gib, Inodes: 50_000_000}
		},
	})
	t.Logf("it took %s and %d requests at 50 ms each", r.Took, p.Total())
	for _, want := range []struct{ check, text string }{
		{"region", "the bucket is in ap-southeast-2"},
		{"lifecycle", "to GLACIER after 104 days"}, {"lifecycle", "to DEEP_ARCHIVE after 194 days"}, {"lifecycle", "to GLACIER_IR after 14 days"},
		{"classes", "in DEEP_ARCHIVE"}, {"classes", "in GLACIER"},
		{"cache", "no bound"}, {"cache", "reserved for root"},
	} {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return f.Check == want.check && strings.Contains(f.Text, want.text) && f.Cure != ""
		}) {
			t.Errorf("nothing says %q with a cure: %+v", want.text, r.Findings)
		}
	}
	if n := p.Total(); n > 150 {
		t.Errorf("it took %d requests, at most 150 are wanted", n)
	}
	if s, ok := r.Worst(); !ok || s != Critical || r.Findings[0].Severity != Critical || len(r.Blocks(nil)) < 4 || len(r.Blocks([]string{"lifecycle", "classes", "cache"})) != 0 {
		t.Errorf("worst %s, blocks %+v", s, r.Blocks(nil))
	}
}

// What the store does not tell is not taken for well.
func TestSkips(t *testing.T) {
	r, _ := examine(t, scene{codes: map[string]string{"lifecycle": "NotImplemented", "versioning": "AccessDenied"}})
	for check, why := range map[string]string{"lifecycle": "no such thing", "versioning": "s3:GetBucketVersioning"} {
		if !slices.ContainsFunc(r.Skipped, func(s Skipped) bool { return s.Check == check && strings.Contains(s.Why, why) }) {
			t.Errorf("%s: %+v", check, r.Skipped)
		}
		if slices.Contains(r.Passed, check) {
			t.Errorf("%s passed, and nobody looked", check)
		}
	}
	if f := len(r.Findings); f != 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// The examination leaves nothing behind.
func TestLeavesNothing(t *testing.T) {
	server.Empty(t)
	p := cloudtest.Front(t, server)
	b := cloudtest.Open(t, p.URL)
	if _, err := Examine(t.Context(), Config{Bucket: b}); err != nil {
		t.Fatal(err)
	}
	if err := b.List(t.Context(), "", func(page []bucket.Info) error {
		t.Errorf("%d objects are left", len(page))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A page for people, JSON, nothing, or the answer to another question, each with
// status 200, was taken for a policy in which nothing is said, and passed.
func TestAnswersOfAnotherKind(t *testing.T) {
	checks := map[string]string{"lifecycle": "lifecycle", "intelligent-tiering": "tiering", "versioning": "versioning", "policyStatus": "public", "uploads": "uploads", "object-lock": "lock"}
	for what, body := range map[string]string{
		"a page": "<html><body><h1>Log in</h1><br></body></html>", "JSON": `{"status":"ok"}`, "nothing": "", "a listing": "<ListBucketResult><Name>b</Name></ListBucketResult>", "half of one": "<LifecycleConfiguration><Rule>",
	} {
		t.Run(what, func(t *testing.T) {
			r, _ := examine(t, scene{fault: func(q cloudtest.Request) *cloudtest.Fault {
				for name := range healthy {
					if q.HTTP.Method == http.MethodGet && q.HTTP.URL.Query().Has(name) {
						return &cloudtest.Fault{Reply: body, Empty: body == ""}
					}
				}
				return nil
			}})
			for _, check := range checks {
				if slices.Contains(r.Passed, check) {
					t.Errorf("%s passes", check)
				}
				if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
					return f.Check == check && f.Severity >= Warning && strings.Contains(f.Text, "could not be read") && f.Cure != ""
				}) {
					t.Errorf("%s says nothing of it: %+v", check, r.Findings)
				}
			}
		})
	}
}

// What has a date has no days: "after 0 days" was printed.
func TestRulesWithADate(t *testing.T) {
	r, _ := examine(t, scene{replies: rule(`<Transition><Date>2027-03-04T00:00:00.000Z</Date><StorageClass>GLACIER</StorageClass></Transition><Expiration><Date>2028-05-06T00:00:00.000Z</Date></Expiration>`)})
	for _, want := range []string{"to GLACIER on 2027-03-04", "deletes objects on 2028-05-06"} {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return strings.Contains(f.Text, want) }) {
			t.Errorf("nothing says %q: %+v", want, r.Findings)
		}
	}
}

// Of the unfinished uploads only those of the first answer were counted.
func TestManyUploads(t *testing.T) {
	page := func(from int, more string) string {
		text := "<ListMultipartUploadsResult><Bucket>backups</Bucket>" + more
		for i := range 3 {
			text += fmt.Sprintf("<Upload><Key>k%d</Key><UploadId>1</UploadId><Initiated>2026-01-0%dT03:04:05.000Z</Initiated></Upload>", from+i, 9-from-i)
		}
		return text + "</ListMultipartUploadsResult>"
	}
	r, _ := examine(t, scene{fault: func(q cloudtest.Request) *cloudtest.Fault {
		switch v := q.HTTP.URL.Query(); {
		case !v.Has("uploads") || q.HTTP.Method != http.MethodGet:
			return nil
		case v.Get("key-marker") == "k2":
			return &cloudtest.Fault{Reply: page(3, "<IsTruncated>false</IsTruncated>")}
		default:
			return &cloudtest.Fault{Reply: page(0, "<IsTruncated>true</IsTruncated><NextKeyMarker>k2</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>")}
		}
	}})
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Check == "uploads" && strings.Contains(f.Text, "6 uploads") && strings.Contains(f.Text, "2026-01-04")
	}) {
		t.Errorf("%+v", r.Findings)
	}
}

// A limit that we set ourselves was measured as the latency of the store, and a site
// in the same building was told to move nearer.
func TestOurOwnLimitIsNoLatency(t *testing.T) {
	r, _ := examine(t, scene{bucket: func(c *bucket.Config) {
		c.Account = cloudtest.Account(t, bucket.AccountConfig{Requests: 12})
	}})
	if r.Typical == 0 || r.Typical > 60*time.Millisecond { // one in 83 ms is what the limit allows
		t.Errorf("a request takes %s", r.Typical)
	}
}
