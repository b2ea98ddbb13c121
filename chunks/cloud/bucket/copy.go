package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// MaxCopy is how long an object may be that a store copies with one request.
const MaxCopy = 5 << 30

// Beside reports whether o is in the same store, with the same key and region, so
// that the store itself can copy from one to the other.
func (b *Bucket) Beside(o *Bucket) bool {
	return b.host == o.host && b.plain == o.plain && b.cfg.Region == o.cfg.Region && b.cfg.Account.cfg.Key == o.cfg.Account.cfg.Key
}

// Copy has the store copy an object of from, which is [Bucket.Beside], as it was
// listed: nothing passes through here. It fails with [ErrChanged] if it is another one
// by now, with [ErrUnsupported] if the store copies nothing, and with [ErrShort] if
// what it made has another ETag, where that is a sum.
func (b *Bucket) Copy(ctx context.Context, from *Bucket, o Info, opt PutOption) error {
	in := &s3.CopyObjectInput{
		Bucket: b.name(), Key: b.key(o.Key), MetadataDirective: types.MetadataDirectiveCopy,
		CopySource: aws.String((&url.URL{Path: from.cfg.Bucket + "/" + *from.key(o.Key)}).EscapedPath()),
	}
	if o.ETag != "" {
		in.CopySourceIfMatch = aws.String(o.ETag)
	}
	if opt.Class != "" {
		in.StorageClass = types.StorageClass(opt.Class)
	}
	if p := b.cfg.Lock; opt.Keep && !p.IsZero() {
		var put s3.PutObjectInput
		b.keep(&put, time.Now())
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = put.ObjectLockMode, put.ObjectLockRetainUntilDate
	}
	return b.try(ctx, "copy", o.Key, func(ctx context.Context, _ *watch) error {
		out, err := b.client.CopyObject(ctx, in)
		var resp *smithyhttp.ResponseError
		if errors.As(err, &resp) {
			switch resp.HTTPStatusCode() {
			case http.StatusPreconditionFailed:
				return fmt.Errorf("%w: %w", ErrChanged, err)
			case http.StatusNotImplemented, http.StatusMethodNotAllowed:
				return fmt.Errorf("%w: %w", ErrUnsupported, err)
			}
		}
		if err != nil {
			return err
		}
		if r := out.CopyObjectResult; r != nil && sum(o.ETag) && sum(aws.ToString(r.ETag)) && *r.ETag != o.ETag && out.ServerSideEncryption == "" {
			return fmt.Errorf("%w: the store copied %s, and made %s", ErrShort, o.ETag, *r.ETag)
		}
		return nil
	})
}

// sum tells whether an ETag looks like an MD5 of the content.
func sum(etag string) bool { return len(etag) == 34 && etag[0] == '"' }
