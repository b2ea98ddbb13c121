package bucket

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Restore asks for a copy of an archived object that can be read for so many
// days. tier is "Bulk", "Standard" or "Expedited". asked is false if that had
// been asked for before, or need not be.
func (b *Bucket) Restore(ctx context.Context, key string, days int, tier string) (asked bool, err error) {
	err = b.try(ctx, "restore", key, func(ctx context.Context, _ *watch) error {
		_, err := b.client.RestoreObject(ctx, &s3.RestoreObjectInput{Bucket: b.name(), Key: b.key(key), RestoreRequest: &types.RestoreRequest{
			Days: aws.Int32(int32(days)), GlacierJobParameters: &types.GlacierJobParameters{Tier: types.Tier(tier)},
		}})
		asked = err == nil
		var api smithy.APIError
		if errors.As(err, &api) && (api.ErrorCode() == "RestoreAlreadyInProgress" || api.ErrorCode() == "ObjectAlreadyInActiveTierError") {
			return nil
		}
		return err
	})
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() == http.StatusNotImplemented {
		err = errors.Join(ErrUnsupported, err)
	}
	return asked, err
}
