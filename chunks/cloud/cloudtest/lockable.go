package cloudtest

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
)

// Lockable makes a bucket in which objects can be locked, in the server that
// answers at url, and returns it with that policy.
func Lockable(t testing.TB, url string, p lock.Policy) *bucket.Bucket {
	t.Helper()
	const name = "locked"
	acc := Account(t, bucket.AccountConfig{})
	c := s3.New(s3.Options{Region: Region, BaseEndpoint: aws.String(url), UsePathStyle: true, Credentials: acc})
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	b, err := bucket.New(bucket.Config{
		Endpoint: url, Region: Region, Bucket: name, PathStyle: true, Can: Full, Lock: p,
		Account: acc, Backoff: 2 * time.Millisecond, Attempts: 4, Stall: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
