package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
)

const lockCure = "make a bucket with it, as most providers cannot add it later: aws s3api create-bucket --bucket NAME --object-lock-enabled-for-bucket; and allow the key s3:PutObjectRetention and s3:GetObjectRetention; or leave object-lock off"

// locking looks for a retention that is longer than ours, and whether ours is taken.
func locking(ctx context.Context, x *exam) {
	told := x.asked("lock", "s3:GetBucketObjectLockConfiguration")
	p := x.b.Lock()
	switch {
	case p.IsZero() || x.Reader:
	case told && x.policy.Lock == nil:
		x.find(Critical, "objects are to be locked ("+p.String()+"), and the bucket has no Object Lock",
			"The provider refuses every object that is written.", lockCure)
	case !told || x.Store == "": // a store that is in use has tried it with every object
		if err := TryLock(ctx, x.b); err != nil {
			x.find(Critical, err.Error(), "The provider refuses every object that is written, or does not lock it.", lockCure)
		}
	}
	if !told || x.policy.Lock == nil || x.policy.Lock.Mode == "" {
		return
	}
	x.retained(x.policy.Lock)
}

// TryLock writes an object that is locked for a day or two, and looks whether it is:
// some stores refuse that, and some take it and lock nothing. In a bucket with locks
// its version stays until then, of 4 bytes.
func TryLock(ctx context.Context, b *bucket.Bucket) error {
	key := "probe/" + rand.Text() + "/locked"
	_, err := b.Locked(lock.Policy{Mode: b.Lock().Mode, Days: 1}).PutBytes(ctx, key, []byte("lock"), bucket.PutOption{Keep: true})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, bucket.ErrSilent) || errors.Is(err, bucket.ErrThrottled) {
		return err // which says nothing about locks
	}
	if err != nil {
		return noLock(fmt.Sprintf("%s takes no object with a lock (%s): %s", b, b.Lock(), said(err)))
	}
	until, err := b.Retention(ctx, key)
	if err == nil && until.IsZero() {
		err = noLock(fmt.Sprintf("%s takes an object with a lock (%s) and does not lock it", b, b.Lock()))
	}
	return errors.Join(err, b.UnlessLocked(b.Delete(ctx, key)))
}

func noLock(text string) error { return &identity.Problem{Text: text, Cure: lockCure} }

// said is what the store itself says of a refusal, without what is around it.
func said(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != "" {
		return fmt.Sprintf("%s (%s)", api.ErrorMessage(), api.ErrorCode())
	}
	return err.Error()
}
