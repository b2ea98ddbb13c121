package bucket

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
)

// Lock is how what is written with [PutOption.Keep] is locked.
func (b *Bucket) Lock() lock.Policy { return b.cfg.Lock }

// Locked returns the same bucket with that policy.
func (b *Bucket) Locked(p lock.Policy) *Bucket {
	other := *b
	other.cfg.Lock = p
	return &other
}

// keep locks an object that is about to be written.
func (b *Bucket) keep(in *s3.PutObjectInput, now time.Time) {
	if p := b.cfg.Lock; !p.IsZero() {
		in.ObjectLockMode = types.ObjectLockMode(strings.ToUpper(p.Mode))
		in.ObjectLockRetainUntilDate = aws.Time(p.Until(now))
	}
}

var _ lock.Retainer = (*Bucket)(nil)

// Retain locks an object that is there until then. One that is locked for longer
// stays so.
func (b *Bucket) Retain(ctx context.Context, key string, p lock.Policy, until time.Time) error {
	mode := types.ObjectLockRetentionMode(strings.ToUpper(p.Mode))
	err := b.try(ctx, "lock", key, func(ctx context.Context, _ *watch) error {
		_, err := b.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
			Bucket: b.name(), Key: b.key(key), Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: aws.Time(until)},
		})
		return err
	})
	if !errors.Is(err, ErrDenied) { // which a lock that ends later answers as well
		return err
	}
	at, ask := b.Retention(ctx, key)
	if ask == nil && !at.Before(until) {
		return nil
	}
	return err
}

// Retention returns until when an object is locked; the zero time if it is not.
func (b *Bucket) Retention(ctx context.Context, key string) (until time.Time, err error) {
	err = b.try(ctx, "head", key, func(ctx context.Context, _ *watch) error {
		out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.name(), Key: b.key(key)})
		if err == nil {
			until = aws.ToTime(out.ObjectLockRetainUntilDate)
		}
		return err
	})
	return until, err
}

// UnlessLocked forgives that something could not be deleted, where objects are
// locked: it stays until its lock ends, and is tried again.
func (b *Bucket) UnlessLocked(err error) error {
	if !errors.Is(err, ErrDenied) || b.cfg.Lock.IsZero() {
		return err
	}
	b.cfg.Log.Info("what is locked stays until its lock ends", "err", err)
	return nil
}
