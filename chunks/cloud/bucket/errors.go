package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The ways in which a bucket fails that somebody can do something about. Match
// them with errors.Is.
var (
	ErrNotFound  = errors.New("no such object")
	ErrNoBucket  = errors.New("no such bucket")
	ErrExists    = errors.New("an object of that name is there already")
	ErrChanged   = errors.New("the object was replaced by somebody else")
	ErrDenied    = errors.New("access was denied")
	ErrThrottled = errors.New("the store asks us to slow down")
	ErrArchived  = errors.New("the object was moved to an archive class and cannot be read")
	ErrStalled   = errors.New("the transfer stalled")
	ErrSilent    = errors.New("the store does not answer")
	ErrShort     = errors.New("the reply is not what was asked for")
	ErrListing   = errors.New("the listing cannot be trusted")
	ErrClock     = errors.New("the store refuses our clock")
	ErrRegion    = errors.New("the bucket is in another region")
	ErrNoStore   = errors.New("what answers at the endpoint is no S3 store")
	ErrIgnores   = errors.New("the store ignores conditions on writes")

	// ErrLength is an [ErrShort] that no other attempt makes longer.
	ErrLength = fmt.Errorf("%w: the object has another length", ErrShort)
)

// An Error says what was done to which object of which bucket.
type Error struct {
	Op, Key, Place string
	Attempts       int
	Err            error
}

func (e *Error) Error() string {
	tried := ""
	if e.Attempts > 1 {
		tried = fmt.Sprintf(" (tried %d times)", e.Attempts)
	}
	return fmt.Sprintf("%s %s in %s%s: %v", e.Op, e.Key, e.Place, tried, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *Error) Hint() string {
	for _, h := range hints {
		if errors.Is(e.Err, h.err) {
			return h.text
		}
	}
	return ""
}

var hints = []struct {
	err  error
	text string
}{
	{ErrNoBucket, "check the bucket's name, region and endpoint; if it was deleted, the local copies are still here: create it again and start the upload anew"},
	{ErrDenied, "check the access key, its secret and its policy; uploads wait, nothing is lost"},
	{ErrThrottled, "the rate was lowered by itself; set a request limit that the provider allows"},
	{ErrArchived, "a lifecycle rule of the bucket moves objects to an archive; remove the rule, then: holdfast datastore thaw NAME --dry-run"},
	{ErrSilent, "look at the line, at the endpoint, and at the provider's status page; uploads wait, nothing is lost"},
	{ErrClock, "set the clock of this machine (NTP); S3 refuses requests that are 15 minutes off"},
	{ErrRegion, "set the region and the endpoint that the bucket is in"},
	{ErrNoStore, "correct the endpoint, its scheme and its port: it is the address of the store's API, not of its web console or of a proxy: holdfast s3 endpoint update ID --endpoint https://HOST:PORT"},
	{ErrListing, "nothing was put back or deleted; try again, and tell the provider if it stays so"},
	{ErrIgnores, "two writers could destroy each other's data in this store; use it from one node only, or choose another provider"},
}

// A verdict is what an error means for the next attempt.
type verdict struct {
	err      error // the sentinel, with the cause
	again    bool
	throttle bool
}

// codes are the error codes of S3 that say more than their status.
var codes = map[string]verdict{
	"NoSuchKey":                    {err: ErrNotFound},
	"NotFound":                     {err: ErrNotFound},
	"NoSuchBucket":                 {err: ErrNoBucket},
	"PreconditionFailed":           {err: ErrExists},
	"ConditionalRequestConflict":   {again: true},
	"OperationAborted":             {again: true},
	"RequestTimeout":               {again: true},
	"BadDigest":                    {again: true}, // flipped on its way
	"XAmzContentSHA256Mismatch":    {again: true},
	"InvalidObjectState":           {err: ErrArchived},
	"RequestTimeTooSkewed":         {err: ErrClock},
	"SlowDown":                     {err: ErrThrottled, again: true, throttle: true},
	"TooManyRequests":              {err: ErrThrottled, again: true, throttle: true},
	"Throttling":                   {err: ErrThrottled, again: true, throttle: true},
	"RequestLimitExceeded":         {err: ErrThrottled, again: true, throttle: true},
	"AuthorizationHeaderMalformed": {err: ErrRegion},
	"PermanentRedirect":            {err: ErrRegion},
	"InvalidRange":                 {err: ErrLength},
}

// judge says what err means. Errors of ctx are final.
func (b *Bucket) judge(ctx context.Context, err error) verdict {
	if cause := context.Cause(ctx); cause != nil {
		return verdict{err: cause}
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		if v, ok := codes[api.ErrorCode()]; ok {
			return v.because(err)
		}
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() != 0 { // 0: there was none
		return b.judgeStatus(resp.HTTPStatusCode()).because(err)
	}
	var netErr net.Error
	var dial *net.OpError
	switch {
	case errors.Is(err, ErrLength), errors.Is(err, ErrNoStore):
		return verdict{err: err}
	case errors.Is(err, ErrStalled), errors.Is(err, ErrShort), errors.Is(err, ErrListing):
		return verdict{err: err, again: true}
	case errors.As(err, &dial) && dial.Op == "dial":
		return verdict{err: ErrSilent, again: true}.because(dial) // the SDK has nothing to say beside
	case errors.As(err, &netErr) && netErr.Timeout():
		return verdict{err: ErrSilent, again: true}.because(err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.As(err, &netErr),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return verdict{err: err, again: true}
	}
	return verdict{err: err}
}

func (b *Bucket) judgeStatus(status int) verdict {
	switch status {
	case http.StatusOK, http.StatusPartialContent:
		return verdict{again: true} // a reply that does not parse was cut
	case http.StatusNotFound:
		return verdict{err: ErrNotFound}
	case http.StatusRequestedRangeNotSatisfiable:
		return verdict{err: ErrLength}
	case http.StatusPreconditionFailed:
		return verdict{err: ErrExists}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return verdict{err: ErrRegion}
	case http.StatusForbidden, http.StatusUnauthorized:
		slow := b.cfg.Account.cfg.DeniedMeansSlow && status == http.StatusForbidden
		if slow {
			return verdict{err: ErrThrottled, again: true, throttle: true}
		}
		return verdict{err: ErrDenied}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 509:
		return verdict{err: ErrThrottled, again: true, throttle: true}
	case http.StatusNotImplemented:
		return verdict{}
	}
	return verdict{again: status >= 500 || status == http.StatusConflict || status == http.StatusRequestTimeout}
}

// because adds the cause to a verdict.
func (v verdict) because(err error) verdict {
	if v.err == nil {
		v.err = err
	} else {
		v.err = fmt.Errorf("%w: %w", v.err, err)
	}
	return v
}
