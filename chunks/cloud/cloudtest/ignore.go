package cloudtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// unconditional sends a request without its conditions, signed anew: this is
// how a provider behaves that accepts If-None-Match and If-Match with 200 and
// overwrites, as `rclone serve s3` does.
func (p *Proxy) unconditional(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range r.Header {
		switch k {
		case "If-None-Match", "If-Match", "Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "Content-Length":
		default:
			out.Header[k] = v
		}
	}
	out.ContentLength = int64(len(body))
	const unsigned = "UNSIGNED-PAYLOAD"
	out.Header.Set("X-Amz-Content-Sha256", unsigned)
	creds := aws.Credentials{AccessKeyID: Key, SecretAccessKey: Secret}
	err = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(context.WithoutCancel(r.Context()), creds, out, unsigned, "s3", Region, time.Now())
	if err != nil {
		return nil, err
	}
	return p.client.RoundTrip(out)
}
