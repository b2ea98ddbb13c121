package bucket

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithy "github.com/aws/smithy-go"
	smithyauth "github.com/aws/smithy-go/auth"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/limit"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/reply"
)

// newTransport makes connections that notice when nobody is there: a dead peer
// is found within a minute also while we send, and a connection idle for longer
// than any server keeps it is not used again.
func newTransport(cfg AccountConfig) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3,
		},
		Control: setUserTimeout,
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       pin.TLS(cfg.Fingerprint),
		MaxIdleConns:          2 * cfg.Conns,
		MaxIdleConnsPerHost:   cfg.Conns,
		MaxConnsPerHost:       2 * cfg.Conns,
		IdleConnTimeout:       15 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: cfg.Answer,
		DisableCompression:    true, // a body is what is stored, and has its length
	}
}

// counted is the HTTP client of the SDK: it limits, counts, and compares clocks.
type counted struct{ acc *Account }

// Do sends one request.
func (c *counted) Do(r *http.Request) (*http.Response, error) {
	class := classOf(r)
	if err := paced(r.Context()); err != nil {
		return nil, err
	}
	if err := c.acc.limit.Wait(r.Context()); err != nil {
		return nil, err
	}
	began, meter := time.Now(), meterOf(r.Context())
	// What never had a connection was not asked: a store that is down for a week must
	// not use up the budget of a month.
	var asked atomic.Bool
	sent := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if asked.CompareAndSwap(false, true) {
			c.acc.stats.add(class, r.ContentLength)
			meter.add(class, r.ContentLength)
		}
	}}
	answered := c.acc.noticed(r)
	resp, err := c.acc.http.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), sent)))
	answered()
	if err == nil {
		if err = foreign(resp); err != nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		if asked.Load() {
			c.acc.stats.failed(class)
		}
		return nil, err
	}
	if date, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
		now := time.Now()
		c.acc.skew.Store(int64(date.Add(500 * time.Millisecond).Sub(began.Add(now.Sub(began) / 2))))
	}
	if resp.StatusCode >= 400 {
		c.acc.stats.failed(class)
	}
	meter.waited(time.Since(began))
	body := answers(r, class, resp.Body)
	resp.Body = &meteredBody{ReadCloser: body, n: &c.acc.stats.bytesIn, limit: c.acc.in, ctx: r.Context(), meter: meter, class: class}
	return resp, reply.Check(r, resp)
}

// A meteredBody counts what is read, as fast as the account may read.
type meteredBody struct {
	io.ReadCloser
	n     *atomic.Int64
	limit *limit.Limiter
	ctx   context.Context
	meter *Meter
	class Class
}

func (m *meteredBody) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.n.Add(int64(n))
	m.meter.read(m.class, n)
	if werr := m.limit.WaitN(m.ctx, n); werr != nil && err == nil {
		err = werr
	}
	return n, err
}

// classOf tells what kind of request the bill will call r.
func classOf(r *http.Request) Class {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodHead:
		return Head
	case r.Method == http.MethodGet && (q.Has("list-type") || q.Has("uploads")):
		return List
	case r.Method == http.MethodGet:
		return Get
	case r.Method == http.MethodPut:
		return Put
	case r.Method == http.MethodPost && q.Has("restore"):
		return Restore
	}
	return Delete // DELETE, and POST ?delete
}

// resolver puts the bucket where the configuration says: in front of the host,
// into the path, or nowhere because the endpoint has it already.
type resolver struct {
	base           url.URL
	bucket, region string
	path, inHost   bool
}

// ResolveEndpoint implements the SDK's interface.
func (r *resolver) ResolveEndpoint(context.Context, s3.EndpointParameters) (smithyendpoints.Endpoint, error) {
	u := r.base
	u.Path = strings.TrimSuffix(u.Path, "/")
	switch {
	case r.inHost:
	case r.path:
		u.Path += "/" + r.bucket
	default:
		u.Host = r.bucket + "." + u.Host
	}
	return smithyendpoints.Endpoint{URI: u, Properties: r.signing()}, nil
}

// signing says how requests are signed. Without it the SDK encodes keys twice
// in the signature, and every key with a space in it is refused.
func (r *resolver) signing() (p smithy.Properties) {
	var how smithy.Properties
	smithyhttp.SetSigV4SigningName(&how, "s3")
	smithyhttp.SetSigV4SigningRegion(&how, r.region)
	smithyhttp.SetDisableDoubleEncoding(&how, true)
	smithyauth.SetAuthOptions(&p, []*smithyauth.Option{{SchemeID: smithyauth.SchemeIDSigV4, SignerProperties: how}})
	return p
}
