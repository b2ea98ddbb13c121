package bucket

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// List calls fn with every object below prefix, in order of key, a page at a
// time. It fails with [ErrListing] unless the store said on every page that
// this is the answer to what was asked, whole and in order: an empty reply is
// not an empty bucket. What fn saw before is then worth nothing.
func (b *Bucket) List(ctx context.Context, prefix string, fn func([]Info) error) error {
	return b.ListAfter(ctx, prefix, "", fn)
}

// ListAfter is [Bucket.List] from the first key behind after.
func (b *Bucket) ListAfter(ctx context.Context, prefix, after string, fn func([]Info) error) error {
	return b.list(ctx, prefix, after, nil, fn)
}

// ListRestoring is [Bucket.List], and tells of objects in archives whether they
// are being restored, or were.
func (b *Bucket) ListRestoring(ctx context.Context, prefix string, fn func([]Info) error) error {
	return b.list(ctx, prefix, "", []types.OptionalObjectAttributes{types.OptionalObjectAttributesRestoreStatus}, fn)
}

func (b *Bucket) list(ctx context.Context, prefix, after string, also []types.OptionalObjectAttributes, fn func([]Info) error) error {
	var token *string
	last := ""
	for {
		var page []Info
		var next *string
		err := b.try(ctx, "list", prefix, func(ctx context.Context, _ *watch) error {
			in := &s3.ListObjectsV2Input{
				Bucket: b.name(), Prefix: b.key(prefix), ContinuationToken: token,
				EncodingType: types.EncodingTypeUrl, OptionalObjectAttributes: also,
			}
			if after != "" && token == nil {
				in.StartAfter = b.key(after)
			}
			out, err := b.client.ListObjectsV2(ctx, in)
			if err != nil {
				return err
			}
			page, err = b.page(out, prefix, last)
			next = out.NextContinuationToken
			if err == nil && aws.ToBool(out.IsTruncated) != (aws.ToString(next) != "") {
				err = fmt.Errorf("%w: it says both that more follows and that nothing does", ErrListing)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(page) > 0 {
			last = page[len(page)-1].Key
			if err := fn(page); err != nil {
				return err
			}
		}
		if aws.ToString(next) == "" {
			return nil
		}
		token = next
	}
}

// page checks one page of a listing. Keys are strictly ascending behind last.
func (b *Bucket) page(out *s3.ListObjectsV2Output, prefix, last string) ([]Info, error) {
	decode := func(s string) (string, error) { return s, nil }
	if out.EncodingType == types.EncodingTypeUrl {
		decode = url.QueryUnescape
	}
	echoed, err := decode(aws.ToString(out.Prefix))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: prefix %q: %w", ErrListing, aws.ToString(out.Prefix), err)
	case out.Name == nil || out.KeyCount == nil || out.IsTruncated == nil:
		return nil, fmt.Errorf("%w: the reply is empty", ErrListing)
	case *out.Name != b.cfg.Bucket || echoed != b.cfg.Prefix+prefix:
		return nil, fmt.Errorf("%w: it is that of %s/%s", ErrListing, *out.Name, echoed)
	case int(*out.KeyCount) != len(out.Contents)+len(out.CommonPrefixes):
		return nil, fmt.Errorf("%w: %d of %d keys arrived", ErrListing, len(out.Contents), *out.KeyCount)
	case *out.IsTruncated && len(out.Contents) == 0:
		return nil, fmt.Errorf("%w: a page without keys, and more to follow", ErrListing)
	}
	page := make([]Info, 0, len(out.Contents))
	for _, o := range out.Contents {
		full, err := decode(aws.ToString(o.Key))
		key, ok := strings.CutPrefix(full, b.cfg.Prefix+prefix)
		key = prefix + key
		if err != nil || !ok || key <= last {
			return nil, fmt.Errorf("%w: key %q behind %q", ErrListing, full, last)
		}
		last = key
		info := Info{
			Key: key, Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag),
			Class: string(o.StorageClass), Time: aws.ToTime(o.LastModified),
		}
		if r := o.RestoreStatus; r != nil {
			info.Restoring, info.Restored = aws.ToBool(r.IsRestoreInProgress), aws.ToTime(r.RestoreExpiryDate)
		}
		page = append(page, info)
	}
	return page, nil
}

// ListAll returns everything below the prefix. It writes an object at either
// end of the key space before, and believes a listing only if both are in it.
func (b *Bucket) ListAll(ctx context.Context) (map[string]Info, error) {
	first, last := "0canary-"+rand.Text(), "zcanary-"+rand.Text()
	for _, key := range []string{first, last} {
		if _, err := b.PutBytes(ctx, key, []byte("canary"), PutOption{}); err != nil {
			return nil, err
		}
	}
	found := map[string]Info{}
	err := b.List(ctx, "", func(page []Info) error {
		for _, o := range page {
			found[o.Key] = o
		}
		return nil
	})
	for _, key := range []string{first, last} {
		if _, ok := found[key]; !ok && err == nil {
			err = fmt.Errorf("%w: an object that was written just now is not in it", ErrListing)
		}
		delete(found, key)
	}
	if derr := b.Delete(context.WithoutCancel(ctx), first, last); derr != nil {
		b.cfg.Log.Warn("canaries were not deleted", "err", derr)
	}
	return found, err
}
