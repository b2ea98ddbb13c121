package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/reply"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// status is the HTTP status of an error; 0 if there was no reply.
func status(err error) int {
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) {
		return resp.HTTPStatusCode()
	}
	return 0
}

// endpoint finds out whether the bucket can be reached, and how it should be.
func endpoint(ctx context.Context, x *exam) {
	conn, err := x.b.Reach(ctx)
	x.conn = conn
	if policy, perr := x.b.Policies(ctx); perr == nil {
		x.policy = policy
	} else {
		x.policy = &bucket.Policies{Failed: map[string]error{}}
	}
	if err == nil {
		err = x.babble(ctx)
	}
	switch {
	case errors.Is(err, bucket.ErrNoStore):
		x.stop = "what answers at the endpoint is no S3 store"
		x.find(Critical, fmt.Sprintf("%s answers, and is no S3 store: %v", x.endpoint, err), "Nothing can be uploaded or restored.",
			"correct the endpoint, its scheme and its port: holdfast s3 endpoint update ID --endpoint https://HOST:PORT")
		return
	case conn.Status == 0:
		x.stop = "the endpoint cannot be reached"
		x.find(Critical, fmt.Sprintf("%s cannot be reached: %v", x.endpoint, err), "Nothing can be uploaded or restored.", x.reachCure(err))
		return
	case conn.Status == http.StatusNotFound:
		x.stop = "there is no such bucket"
		x.find(Critical, fmt.Sprintf("there is no bucket %s at %s", x.name, x.endpoint), "Nothing can be uploaded or restored.",
			x.aws("create-bucket", "--region", x.region)+" # or correct the name")
		return
	}
	if conn.TLS || loopback(x.endpoint) {
		x.style(ctx)
		return
	}
	x.find(Warning, "the endpoint is reached without TLS", "Whoever is on the way reads and changes what is not encrypted at the tier.", "use an https:// endpoint")
	x.style(ctx)
}

// reachCure is what helps when no request is answered.
func (x *exam) reachCure(err error) string {
	var plain tls.RecordHeaderError
	seen := pin.Refused(err)
	switch {
	case seen != "":
		return "correct the name of the endpoint if it is not in the certificate; install the authority that signed it on this machine (update-ca-certificates), and restart the node; or, if the fingerprint is that of your store: holdfast s3 endpoint update ID --fingerprint " + seen
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the port speaks no TLS: holdfast s3 endpoint update ID --endpoint http://HOST:PORT, or name the port that does"
	}
	return "check the name of the endpoint, DNS, the firewall and the port: curl -v " + x.b.URL()
}

// babble fails if whatever answers at the endpoint answers nothing of what it is asked,
// and says with status 200 that it does: a page for people, or a proxy.
func (x *exam) babble(ctx context.Context) error {
	other := 0
	for _, err := range x.policy.Failed {
		if errors.Is(err, reply.ErrOther) {
			other++
		}
	}
	if other < 3 {
		return nil
	}
	err := x.b.Once().List(reply.Expect(ctx, "ListBucketResult"), "", func([]bucket.Info) error { return errEnough })
	if errors.Is(err, reply.ErrOther) {
		return fmt.Errorf("%w: %w", bucket.ErrNoStore, err)
	}
	return nil
}

// style compares the two ways to name a bucket.
func (x *exam) style(ctx context.Context) {
	if !x.pathStyle {
		return
	}
	other, err := x.b.Styled(false)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if conn, _ := other.Reach(ctx); conn.Status == 0 || conn.Status == http.StatusNotFound {
		return // the store has only the one
	}
	legacy := "Both styles work; the bucket in the host goes straight to its region."
	if strings.HasSuffix(x.endpoint, "amazonaws.com") {
		legacy = "Path style is legacy on AWS, and takes a detour to the bucket's region."
	}
	x.find(Warning, "the bucket is named in the path, though it could be in the host", legacy,
		"holdfast s3 endpoint update ID --path-style=false")
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// region compares where the bucket is with where we ask.
func region(_ context.Context, x *exam) {
	is := x.policy.Region
	switch {
	case is == "" && x.conn.Status == http.StatusMovedPermanently:
		x.stop = "the bucket is in another region"
		x.find(Critical, "the store sends us elsewhere and does not say where: the bucket is in another region", "No request is answered.",
			x.aws("get-bucket-location"))
	case is == "":
		x.skip("the store does not say where the bucket is")
	case is != x.region && x.region != "auto":
		s, cost := Warning, "Every request crosses regions: it takes longer, and AWS bills traffic between regions."
		if x.conn.Status >= 300 {
			s, x.stop, cost = Critical, "the bucket is in another region", "The store refuses every request."
		}
		x.find(s, fmt.Sprintf("the bucket is in %s, but we ask in %s (a request took %s)", is, x.region, round(x.conn.Took)), cost,
			fmt.Sprintf("holdfast s3 endpoint update ID --region %s%s; or move the bucket's content nearer", is, x.regionalHost(is)))
	}
}

// regionalHost is the part of the cure that names another endpoint.
func (x *exam) regionalHost(is string) string {
	if strings.Contains(x.endpoint, x.region) {
		return " --endpoint " + strings.ReplaceAll(strings.TrimPrefix(x.endpoint, x.name+"."), x.region, is)
	}
	return ""
}

// clock compares the store's clock with ours.
func clock(_ context.Context, x *exam) {
	skew := x.b.Account().Skew()
	far := skew.Abs()
	if far <= 30*time.Second {
		return
	}
	s, what := Warning, "ahead of"
	if far > 5*time.Minute {
		s = Critical
	}
	if skew > 0 {
		what = "behind"
	}
	x.find(s, fmt.Sprintf("our clock is %s %s the store's", far.Round(time.Second), what), "At 15 minutes the store refuses every request; leases and ages of objects are judged wrongly before.",
		"timedatectl set-ntp true")
}

const probeSize = 1 << 20

// keys finds out whether the key may do what is needed.
func keys(ctx context.Context, x *exam) {
	if x.Reader {
		x.reads(ctx)
		return
	}
	dir := "probe/" + rand.Text() + "/"
	body := bytes.Repeat([]byte("holdfast"), probeSize/8)
	for _, step := range []struct {
		may  string // the permission
		need Severity
		do   func() error
	}{
		{"s3:PutObject", Critical, func() error { _, err := x.b.PutBytes(ctx, dir+"key", body, bucket.PutOption{}); return err }},
		{"s3:GetObject", Critical, func() error {
			got, _, err := x.b.Get(ctx, dir+"key", probeSize)
			if err == nil && !bytes.Equal(got, body) {
				err = errors.New("what was written does not come back")
			}
			return err
		}},
		{"s3:ListBucket", Critical, func() error {
			found := false
			err := x.b.List(ctx, dir, func(p []bucket.Info) error { found = found || len(p) == 1; return nil })
			if err == nil && !found {
				err = errors.New("what was just written is not in the listing")
			}
			return err
		}},
	} {
		if err := step.do(); err != nil {
			x.find(step.need, fmt.Sprintf("%s at %s: %v", whose(err), step.may, err), "Backups cannot be kept in this bucket.", x.keyCure(err))
			break
		}
	}
	x.speed(ctx, dir+"key")
	err := x.b.Delete(ctx, dir+"key")
	if err == nil {
		_, err = x.b.Head(ctx, dir+"key")
		if err == nil {
			err = errors.New("what was deleted is still there")
		} else if errors.Is(err, bucket.ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		x.find(Critical, fmt.Sprintf("%s at s3:DeleteObject: %v", whose(err), err), "Garbage collection can free nothing, and the bucket grows for ever.", x.keyCure(err))
	}
}

// reads finds out whether the key may read what is there, and writes nothing.
func (x *exam) reads(ctx context.Context) {
	var least bucket.Info
	may := "s3:ListBucket"
	err := x.b.List(ctx, layout.Root, func(page []bucket.Info) error {
		least = slices.MinFunc(page, func(a, b bucket.Info) int { return cmp.Compare(a.Size, b.Size) })
		return errEnough
	})
	switch {
	case err == nil:
		x.skip("there is nothing to read")
		return
	case errors.Is(err, errEnough):
		may = "s3:GetObject"
		_, _, err = x.b.Get(ctx, least.Key, least.Size)
	}
	if err != nil {
		x.find(Critical, fmt.Sprintf("%s at %s: %v", whose(err), may, err), "Nothing can be restored from this bucket.", x.keyCure(err))
		return
	}
	x.speed(ctx, least.Key)
}

// whose says who fails: not every refusal is the key's fault.
func whose(err error) string {
	switch {
	case errors.Is(err, bucket.ErrClock):
		return "our clock is wrong, and the store refuses us"
	case errors.Is(err, bucket.ErrThrottled), errors.Is(err, bucket.ErrSilent), errors.Is(err, bucket.ErrStalled), status(err) >= 500:
		return "the store has a fault, or too much to do, and fails"
	}
	return "the key fails"
}

// keyCure is what helps a key that fails so.
func (x *exam) keyCure(err error) string {
	var coded interface{ ErrorCode() string }
	code := ""
	if errors.As(err, &coded) {
		code = coded.ErrorCode()
	}
	switch {
	case code == "SignatureDoesNotMatch":
		return "the secret is not that of the access key: holdfast s3 endpoint update ID --secret-key-file FILE"
	case code == "ExpiredToken" || code == "TokenRefreshRequired":
		return "the key was one for a time that is over: make one that stays, and holdfast s3 endpoint update ID --access-key KEY --secret-key-file FILE"
	case code == "InvalidAccessKeyId":
		return "the provider does not know the access key: holdfast s3 endpoint update ID --access-key KEY --secret-key-file FILE"
	case code == "AuthorizationHeaderMalformed":
		return "the region is another one: holdfast s3 endpoint update ID --region REGION"
	case errors.Is(err, bucket.ErrNoBucket):
		return "make the bucket " + x.name + ", or correct its name"
	case errors.Is(err, bucket.ErrClock):
		return "timedatectl set-ntp true, and try again; the key may be right"
	case whose(err) != "the key fails":
		return "look at the provider's status page, and try again in a while: this says nothing about the key"
	case errors.Is(err, bucket.ErrDenied):
		return x.policyCure()
	}
	return "see whether the provider has a fault, and try again; if the key lacks a right, " + x.policyCure()
}

// policyCure is a policy that allows just what is needed.
func (x *exam) policyCure() string {
	objects := `"s3:GetObject","s3:PutObject","s3:DeleteObject"`
	if !x.b.Lock().IsZero() {
		objects += `,"s3:PutObjectRetention","s3:GetObjectRetention"`
	}
	return fmt.Sprintf(`give the key this policy: {"Version":"2012-10-17","Statement":[`+
		`{"Effect":"Allow","Action":["s3:ListBucket","s3:ListBucketMultipartUploads","s3:GetBucketLocation","s3:GetLifecycleConfiguration","s3:GetBucketVersioning","s3:GetBucketObjectLockConfiguration","s3:GetIntelligentTieringConfiguration","s3:GetBucketPolicyStatus","s3:GetBucketPublicAccessBlock","s3:GetBucketAcl","s3:GetEncryptionConfiguration"],"Resource":"arn:aws:s3:::%s"},`+
		`{"Effect":"Allow","Action":[%s],"Resource":"arn:aws:s3:::%s/%s*"}]}`, x.name, objects, x.name, x.prefix)
}

// speed measures small requests, and the reading of a mebibyte.
func (x *exam) speed(ctx context.Context, key string) {
	var small []time.Duration
	for range 20 {
		ctx, meter := bucket.Metered(ctx)
		if _, err := x.b.Head(ctx, key); err != nil {
			return
		}
		small = append(small, meter.Took()) // not how long our own limits let it wait
	}
	slices.Sort(small)
	x.report.Typical, x.report.Slow = small[len(small)/2], small[len(small)-1]
	began := time.Now()
	const reads = 4
	for range reads {
		if _, _, err := x.b.Get(ctx, key, probeSize); err != nil {
			return
		}
	}
	if took := time.Since(began).Seconds(); took > 0 {
		x.report.Speed = reads * probeSize / took
	}
	// Enough transfers at the same time that the way to the store and back
	// is hidden behind the time that 16 MiB take.
	x.report.Streams = min(64, max(4, int(x.report.Typical/(5*time.Millisecond))))
}

// latency judges what keys measured.
func latency(_ context.Context, x *exam) {
	if x.report.Typical == 0 {
		x.skip("nothing could be measured")
		return
	}
	if x.report.Typical > 100*time.Millisecond {
		x.find(Warning, fmt.Sprintf("a small request takes %s, the slowest of 20 took %s", round(x.report.Typical), round(x.report.Slow)),
			fmt.Sprintf("One stream reads %.1f MiB/s; restores use %d of them.", x.report.Speed/(1<<20), x.report.Streams), "use a bucket in a region near this site")
	}
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
