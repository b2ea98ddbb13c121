package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
)

// A bucketStore is a store in a bucket, read with no node. What it needs lies in
// a directory that goes when it is closed.
type bucketStore struct {
	*dirStore
	tier    *tier.Tier
	account *bucket.Account
}

func (s *bucketStore) Close() error {
	err := errors.Join(s.tier.Close(), os.RemoveAll(filepath.Dir(s.dir)))
	s.account.Close()
	return err
}

func (s *bucketStore) String() string { return s.o.Repository }

// bucketStore opens s3://BUCKET[/PREFIX][?endpoint=URL&region=R&path-style=1&fingerprint=F].
// What is not said there comes from the environment, as for other tools.
func (o *Options) bucketStore(ctx context.Context) (Store, error) {
	u, err := url.Parse(o.Repository)
	if err != nil {
		return nil, usageError{err}
	}
	q := u.Query()
	style := false
	for name, values := range q {
		switch name {
		case "endpoint", "region", "fingerprint":
		case "path-style":
			style, err = parseFlag(values[len(values)-1])
		default:
			err = errors.New("there is no such setting: there are endpoint, region, path-style and fingerprint")
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %s: %w", o.Repository, name, err)}
		}
	}
	key, secret := o.Getenv("AWS_ACCESS_KEY_ID"), o.Getenv("AWS_SECRET_ACCESS_KEY")
	if key == "" || secret == "" {
		return nil, hinted{fmt.Errorf("open %s: no credentials", o.Repository), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}
	}
	account, err := bucket.NewAccount(bucket.AccountConfig{Key: key, Secret: secret, Session: o.Getenv("AWS_SESSION_TOKEN"), Fingerprint: q.Get("fingerprint"), Notice: o.notice})
	if err != nil {
		return nil, err
	}
	b, err := bucket.New(bucket.Config{
		Endpoint: cmp.Or(q.Get("endpoint"), o.Getenv("AWS_ENDPOINT_URL_S3"), o.Getenv("AWS_ENDPOINT_URL")),
		Region:   cmp.Or(q.Get("region"), o.Getenv("AWS_REGION"), o.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
		Bucket:   u.Host, Prefix: strings.Trim(u.Path, "/"), PathStyle: style,
		Account: account, Log: o.Log(),
	})
	if err != nil {
		return nil, usageError{err}
	}
	t, dir, err := o.readBucket(ctx, b)
	if err != nil {
		account.Close()
		return nil, err
	}
	return &bucketStore{&dirStore{o: o, dir: dir, d: t.Datastore()}, t, account}, nil
}

// notice tells who waits that a store does not answer.
func (o *Options) notice(text string) { fmt.Fprintln(o.Err, "holdfast: "+text) }

// parseFlag reads what is on or off in a repository; a name alone is on.
func parseFlag(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "", "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off: path-style=1 puts the bucket into the path, path-style=0 into the host", text)
}

func (o *Options) readBucket(ctx context.Context, b *bucket.Bucket) (t *tier.Tier, dir string, err error) {
	recovery := ""
	if o.RecoveryKey != "" {
		text, err := os.ReadFile(o.RecoveryKey)
		if err != nil {
			return nil, "", fmt.Errorf("read the recovery key: %w", err)
		}
		recovery = strings.TrimSpace(string(text))
	}
	key, err := seal.NewIdentity() // for the length of this command
	if err != nil {
		return nil, "", err
	}
	top, err := os.MkdirTemp("", "holdfast-bucket-")
	if err != nil {
		return nil, "", err
	}
	dir = filepath.Join(top, "store")
	cfg := tier.Config{Dir: dir, Bucket: b, Node: "nobody", Key: key, ReadOnly: true, Log: o.Log()}
	if err = tier.Attach(ctx, cfg, recovery, false); err == nil {
		t, err = tier.Open(ctx, cfg)
	}
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(top))
	}
	return t, dir, nil
}
