package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/reply"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/rules"
)

// A Lock is the retention that every new object of a bucket gets.
type Lock struct {
	Mode string // GOVERNANCE, COMPLIANCE, or "" if objects get none by default
	Days int
}

// An Upload was begun and neither finished nor given up. Its parts are billed.
type Upload struct {
	Key   string
	Began time.Time
}

// Policies are what the owner of a bucket told the provider to do with it.
// What could not be found out is in Failed, by the name of the field; so is what the
// store answered with something else.
type Policies struct {
	Region     string // where the bucket says it is; "" if the store does not tell
	Rules      []rules.Rule
	Tierings   []rules.Tiering // of intelligent tiering
	Versioning string          // Enabled, Suspended, or ""
	Lock       *Lock           // nil: the bucket has none
	Public     bool            // its policy lets anybody in
	Blocked    bool            // whatever policies say, nobody is let in
	IgnoresACL bool            // whatever the access list says, nobody is let in
	Grants     []string        // whom among strangers the access list lets do what
	Encrypted  bool            // the provider encrypts at rest
	Uploads    []Upload        // of the first pages
	Wide       bool            // the key reads the bucket's policy and ACL, which no backup needs
	Failed     map[string]error
}

// Unknown reports whether the field could not be found out because the store
// has no such thing, or will not tell this key.
func (p *Policies) Unknown(field string) bool { return p.Failed[field] != nil }

// ErrUnsupported means that a store has no such thing.
var ErrUnsupported = errors.New("the store does not know this request")

// Policies asks for everything there is to know about the bucket; about 11 requests.
// It fails only if ctx ends: what a store does not tell is in Failed.
func (b *Bucket) Policies(ctx context.Context) (*Policies, error) {
	p := &Policies{Failed: map[string]error{}}
	b = b.atMost(2)
	for _, q := range []struct {
		field  string
		root   string // what the answer begins with
		absent string // the code by which a store says that there is none
		ask    func(context.Context, *Policies) error
	}{
		{"region", "LocationConstraint", "", b.askRegion},
		{"rules", "LifecycleConfiguration", "NoSuchLifecycleConfiguration", b.askRules},
		{"archives", "ListBucketIntelligentTieringConfigurations", "NoSuchConfiguration", b.askTierings},
		{"versioning", "VersioningConfiguration", "", b.askVersioning},
		{"lock", "ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", b.askLock},
		{"public", "PolicyStatus", "NoSuchBucketPolicy", b.askPublic},
		{"blocked", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration", b.askBlocked},
		{"encrypted", "ServerSideEncryptionConfiguration", "ServerSideEncryptionConfigurationNotFoundError", b.askEncryption},
		{"uploads", "ListMultipartUploadsResult", "", b.askUploads},
		{"acl", "AccessControlPolicy", "", b.askACL},
		{"wide", "", "", b.askWide},
	} {
		err := b.try(ctx, "ask for "+q.field, "", func(ctx context.Context, _ *watch) error { return q.ask(reply.Expect(ctx, q.root), p) })
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if err = answered(err, q.absent); err != nil {
			p.Failed[q.field] = err
		}
	}
	return p, nil
}

// Once is the same bucket, of which everything is asked once.
func (b *Bucket) Once() *Bucket { return b.atMost(1) }

func (b *Bucket) atMost(attempts int) *Bucket {
	few := *b
	few.cfg.Attempts = min(b.cfg.Attempts, attempts)
	return &few
}

// answered says whether an error is an answer: that there is no such policy.
func answered(err error, absent string) error {
	var api smithy.APIError
	if err == nil || !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode() {
	case absent:
		return nil
	case "NotImplemented", "MethodNotAllowed", "NoSuchKey":
		return errors.Join(ErrUnsupported, err)
	}
	return err
}

// askRegion believes the header, which comes with refusals and redirects too.
func (b *Bucket) askRegion(ctx context.Context, p *Policies) error {
	out, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: b.name()})
	if err == nil && aws.ToString(out.BucketRegion) != "" {
		p.Region = *out.BucketRegion
		return nil
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		if p.Region = resp.Response.Header.Get("x-amz-bucket-region"); p.Region != "" {
			return nil
		}
	}
	if err != nil {
		return err
	}
	where, err := b.client.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: b.name()})
	if err != nil {
		return err
	}
	switch p.Region = string(where.LocationConstraint); p.Region {
	case "":
		p.Region = "us-east-1" // it is where S3 began, and says so by saying nothing
	case "EU":
		p.Region = "eu-west-1"
	}
	return nil
}

func (b *Bucket) askRules(ctx context.Context, p *Policies) error {
	out, err := b.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b.name()})
	if err != nil {
		return err
	}
	p.Rules = nil // an earlier attempt may have got here
	for _, r := range out.Rules {
		p.Rules = append(p.Rules, rules.Of(r))
	}
	return nil
}

func (b *Bucket) askTierings(ctx context.Context, p *Policies) error {
	p.Tierings = nil
	in := &s3.ListBucketIntelligentTieringConfigurationsInput{Bucket: b.name()}
	for range maxTieringPages {
		out, err := b.client.ListBucketIntelligentTieringConfigurations(ctx, in)
		if err != nil {
			return err
		}
		for _, c := range out.IntelligentTieringConfigurationList {
			p.Tierings = append(p.Tierings, rules.TieringOf(c))
		}
		in.ContinuationToken = out.NextContinuationToken
		if !aws.ToBool(out.IsTruncated) || aws.ToString(in.ContinuationToken) == "" {
			return nil
		}
	}
	return fmt.Errorf("the list of configurations does not end after %d pages", maxTieringPages)
}

// maxTieringPages bounds how much is read: a bucket has at most 1,000 configurations.
const maxTieringPages = 20

func (b *Bucket) askVersioning(ctx context.Context, p *Policies) error {
	out, err := b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b.name()})
	if err == nil {
		p.Versioning = string(out.Status)
	}
	return err
}

func (b *Bucket) askLock(ctx context.Context, p *Policies) error {
	out, err := b.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: b.name()})
	if err != nil || out.ObjectLockConfiguration == nil || out.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		return err
	}
	p.Lock = &Lock{}
	if r := out.ObjectLockConfiguration.Rule; r != nil && r.DefaultRetention != nil {
		p.Lock.Mode = string(r.DefaultRetention.Mode)
		p.Lock.Days = int(aws.ToInt32(r.DefaultRetention.Days)) + 365*int(aws.ToInt32(r.DefaultRetention.Years))
	}
	return nil
}

func (b *Bucket) askPublic(ctx context.Context, p *Policies) error {
	out, err := b.client.GetBucketPolicyStatus(ctx, &s3.GetBucketPolicyStatusInput{Bucket: b.name()})
	if err == nil && out.PolicyStatus != nil {
		p.Public = aws.ToBool(out.PolicyStatus.IsPublic)
	}
	return err
}

func (b *Bucket) askBlocked(ctx context.Context, p *Policies) error {
	out, err := b.client.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: b.name()})
	if err == nil && out.PublicAccessBlockConfiguration != nil {
		c := out.PublicAccessBlockConfiguration
		p.IgnoresACL = aws.ToBool(c.IgnorePublicAcls)
		p.Blocked = aws.ToBool(c.RestrictPublicBuckets) && aws.ToBool(c.BlockPublicPolicy) && aws.ToBool(c.IgnorePublicAcls) && aws.ToBool(c.BlockPublicAcls)
	}
	return err
}

func (b *Bucket) askEncryption(ctx context.Context, p *Policies) error {
	out, err := b.client.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: b.name()})
	if err == nil && out.ServerSideEncryptionConfiguration != nil {
		p.Encrypted = len(out.ServerSideEncryptionConfiguration.Rules) > 0
	}
	return err
}

func (b *Bucket) askUploads(ctx context.Context, p *Policies) error {
	in := &s3.ListMultipartUploadsInput{Bucket: b.name()}
	if b.cfg.Prefix != "" {
		in.Prefix = b.key("")
	}
	p.Uploads = nil
	for range maxUploadPages {
		out, err := b.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return err
		}
		for _, u := range out.Uploads {
			p.Uploads = append(p.Uploads, Upload{Key: aws.ToString(u.Key), Began: aws.ToTime(u.Initiated)})
		}
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextKeyMarker) == "" {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
	return nil
}

// maxUploadPages bounds how many unfinished uploads are counted: a thousand each.
const maxUploadPages = 20

func (b *Bucket) askACL(ctx context.Context, p *Policies) error {
	out, err := b.client.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: b.name()})
	if err == nil {
		p.Grants = rules.Public(out.Grants)
	}
	return err
}

// askWide finds out whether the key may do what no backup needs, without doing any
// harm: to try to delete the bucket, or to change its policy, might work.
func (b *Bucket) askWide(ctx context.Context, p *Policies) error {
	if err := p.Failed["acl"]; err != nil {
		return err // few may read the policy and not this
	}
	_, err := b.client.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: b.name()})
	var api smithy.APIError
	if err != nil && !(errors.As(err, &api) && api.ErrorCode() == "NoSuchBucketPolicy") {
		return err
	}
	p.Wide = true
	return nil
}

// Place tells how the bucket is reached.
func (b *Bucket) Place() (endpoint, region, name, prefix string, pathStyle bool) {
	return b.host, b.cfg.Region, b.cfg.Bucket, b.cfg.Prefix, b.cfg.PathStyle
}

// Styled is the same bucket with its name in the path, or in the host.
func (b *Bucket) Styled(path bool) (*Bucket, error) {
	cfg := b.cfg
	cfg.PathStyle = path
	return New(cfg)
}

// Reach asks once whether the bucket is there and lets us in, and tells what
// the connection was like. Unlike all others it is tried once.
func (b *Bucket) Reach(ctx context.Context) (Connection, error) {
	var c Connection
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { c.look(i.Conn) }})
	began := time.Now()
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: b.name()})
	c.Took = time.Since(began)
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		c.Status = resp.HTTPStatusCode()
	} else if err == nil {
		c.Status = http.StatusOK
	}
	return c, err
}

// A Connection is what one request found on its way.
type Connection struct {
	Took      time.Duration
	Status    int // of the reply; 0: there was none
	TLS       bool
	KeepAlive KeepAlive
}

// KeepAlive is how soon a connection notices that nobody is at the other end.
type KeepAlive struct {
	Known          bool // on this system it can be found out
	On             bool
	Idle, Interval time.Duration
	Count          int
}

// Within is when a dead connection is noticed at the latest; 0: never.
func (k KeepAlive) Within() time.Duration {
	if !k.On {
		return 0
	}
	return k.Idle + time.Duration(k.Count)*k.Interval
}

func (c *Connection) look(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		c.TLS, conn = true, t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		c.KeepAlive = keepAliveOf(tcp)
	}
}
