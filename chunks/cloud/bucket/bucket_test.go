package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// front returns a bucket behind a proxy.
func front(t *testing.T) (*bucket.Bucket, *cloudtest.Proxy) {
	t.Helper()
	p := cloudtest.Front(t, cloudtest.Start(t))
	return cloudtest.Open(t, p.URL), p
}

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// first returns a hook that lets f happen to the first n requests of a class.
func first(class string, n int32, f cloudtest.Fault) func(cloudtest.Request) *cloudtest.Fault {
	var left atomic.Int32
	left.Store(n)
	return func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == class && left.Add(-1) >= 0 {
			return &f
		}
		return nil
	}
}

func put(t *testing.T, b *bucket.Bucket, key string, body []byte) {
	t.Helper()
	if _, err := b.PutBytes(t.Context(), key, body, bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
}

func TestProbeFindsWhatTheServerCan(t *testing.T) {
	b, p := front(t)
	can, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := cloudtest.Full
	want.Skew = can.Skew
	if can != want || can.Skew.Abs() > 3*time.Second || !can.Fenced() || can.Usable() != nil {
		t.Errorf("probe found %+v, want %+v", can, want)
	}
	if n := p.Total(); n > 80 {
		t.Errorf("the probe took %d requests, want at most 80", n)
	}
	err = b.List(t.Context(), "", func(page []bucket.Info) error {
		return fmt.Errorf("the probe left %v", page)
	})
	if err != nil {
		t.Error(err)
	}
}

// A store that answers 200 to every condition and overwrites is worse than one
// that refuses: two owners would both believe to be alone.
func TestProbeFindsIgnoredConditions(t *testing.T) {
	b, p := front(t)
	p.On(func(r cloudtest.Request) *cloudtest.Fault {
		if h := r.HTTP.Header; h.Get("If-None-Match") != "" || h.Get("If-Match") != "" {
			return &cloudtest.Fault{Ignore: true}
		}
		return nil
	})
	can, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if can.CreateOnce || can.Replace || can.Races || can.DeleteIf || can.Fenced() {
		t.Errorf("probe of a store that ignores conditions found %+v", can)
	}
	if !can.CRC32C || !can.Ranges || !can.Lists {
		t.Errorf("the rest works, but the probe found %+v", can)
	}
}

func TestProbeMeasuresClock(t *testing.T) {
	b, p := front(t)
	p.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Skew: 20 * time.Minute} })
	can, err := b.Probe(t.Context())
	if err == nil {
		err = can.Usable()
	}
	if skew := b.Account().Skew(); !errors.Is(err, bucket.ErrClock) || skew < 19*time.Minute {
		t.Errorf("with a clock 20 minutes off: skew %s, %v", skew, err)
	}
}

func TestRoundTrip(t *testing.T) {
	b, p := front(t)
	body := random(300_000)
	info, err := b.PutBytes(t.Context(), "p/one", body, bucket.PutOption{New: true})
	if err != nil || info.ETag == "" {
		t.Fatal(info, err)
	}
	got, again, err := b.Get(t.Context(), "p/one", 1<<20)
	if err != nil || !bytes.Equal(got, body) || again.ETag != info.ETag {
		t.Fatalf("get: %d bytes, %+v, %v", len(got), again, err)
	}
	part := make([]byte, 1000)
	if err := b.GetRange(t.Context(), "p/one", part, 299_000, 300_000); err != nil || !bytes.Equal(part, body[299_000:]) {
		t.Fatalf("range: %v", err)
	}
	if err := b.GetRange(t.Context(), "p/one", part, 0, 300_001); !errors.Is(err, bucket.ErrShort) {
		t.Errorf("a range of an object of another length: %v", err)
	}
	if _, _, err := b.Get(t.Context(), "p/one", 1000); err == nil {
		t.Error("an object over the limit was returned")
	}
	if head, err := b.Head(t.Context(), "p/one"); err != nil || head.Size != 300_000 {
		t.Errorf("head: %+v, %v", head, err)
	}
	if _, _, err := b.Get(t.Context(), "p/two", 10); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("get of nothing: %v", err)
	}
	if err := errors.Join(b.Delete(t.Context(), "p/one"), b.Delete(t.Context(), "p/one")); err != nil {
		t.Errorf("delete twice: %v", err)
	}
	want, have := p.Counts(), b.Account().Stats().Requests
	for class, n := range want {
		if have[class] != int64(n) {
			t.Errorf("the account counted %d of %s, the proxy %d", have[class], class, n)
		}
	}
}

// Every transient fault is survived, and nothing comes back wrong.
func TestFaultsAreSurvived(t *testing.T) {
	body := random(200_000)
	faults := map[string]cloudtest.Fault{
		"503 SlowDown":       {Status: 503, Code: "SlowDown"},
		"429":                {Status: 429, Code: "TooManyRequests"},
		"500":                {Status: 500, Code: "InternalError"},
		"520 of a cache":     {Status: 520},
		"409 conflict":       {Status: 409, Code: "ConditionalRequestConflict"},
		"400 RequestTimeout": {Status: 400, Code: "RequestTimeout"},
		"reset":              {Reset: true},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			b, p := front(t)
			for _, class := range []string{"put", "get", "list", "delete", "head"} {
				if f.Code == "SlowDown" && class != "put" || f.Code == "TooManyRequests" && class != "get" {
					continue // each slows the account down, which takes time
				}
				if class == "head" && f.Status == 400 {
					continue // a HEAD has no body that could say which 400 it is
				}
				p.On(first(class, 2, f))
				put(t, b, "x", body)
				if got, _, err := b.Get(t.Context(), "x", 1<<20); err != nil || !bytes.Equal(got, body) {
					t.Errorf("get after faults of %s: %v", class, err)
				}
				part := make([]byte, 100_000)
				if err := b.GetRange(t.Context(), "x", part, 50_000, 200_000); err != nil || !bytes.Equal(part, body[50_000:150_000]) {
					t.Errorf("range after faults of %s: %v", class, err)
				}
				if _, err := b.Head(t.Context(), "x"); err != nil {
					t.Error(err)
				}
				if keys := list(t, b, ""); len(keys) != 1 {
					t.Errorf("list after faults of %s: %q", class, keys)
				}
				if err := b.Delete(t.Context(), "x"); err != nil {
					t.Error(err)
				}
			}
			if s := b.Account().Stats(); s.Retries < 2 {
				t.Errorf("only %d retries were counted", s.Retries)
			}
		})
	}
}

// list returns the keys below prefix.
func list(t *testing.T, b *bucket.Bucket, prefix string) (keys []string) {
	t.Helper()
	err := b.List(t.Context(), prefix, func(page []bucket.Info) error {
		for _, i := range page {
			keys = append(keys, i.Key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return keys
}

// A body that ends early, however it does so, is resumed where it ended.
func TestBodiesAreResumed(t *testing.T) {
	body := random(400_000)
	faults := map[string]cloudtest.Fault{
		"cut":                       {Cut: 150_000},
		"cut, and looks whole":      {Cut: 150_000, Shrink: true},
		"stalled in the middle":     {Stall: 150_000},
		"stalled at the first byte": {Stall: 1},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			p := cloudtest.Front(t, cloudtest.Start(t))
			b, err := bucket.New(bucket.Config{
				Endpoint: p.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true, Can: cloudtest.Full,
				Account: cloudtest.Account(t, bucket.AccountConfig{}), Backoff: time.Millisecond, Stall: 150 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			put(t, b, "x", body)
			p.On(first("get", 1, f))
			p.Reset()
			got := make([]byte, len(body))
			if err := b.GetRange(t.Context(), "x", got, 0, int64(len(body))); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("range: %v", err)
			}
			if n := p.Counts()["get"]; n < 2 {
				t.Errorf("%d requests: the fault did not happen", n)
			}
			in := b.Account().Stats().BytesIn
			if f.Cut > 0 && !f.Shrink && in > int64(len(body))+1000 {
				t.Errorf("%d bytes were read of %d: what had arrived was asked for again", in, len(body))
			}
			p.On(first("get", 1, f))
			if whole, _, err := b.Get(t.Context(), "x", 1<<20); name != "cut, and looks whole" && (err != nil || !bytes.Equal(whole, body)) {
				t.Errorf("get: %v", err)
			}
		})
	}
}

// The reply to a conditional write may be lost after the store has done it.
// The second attempt then meets our own object.
func TestLostReplyIsNotSomebodyElse(t *testing.T) {
	b, p := front(t)
	p.On(first("put", 1, cloudtest.Fault{After: true, Reset: true}))
	created, err := b.PutBytes(t.Context(), "owner", []byte("me"), bucket.PutOption{New: true})
	if err != nil {
		t.Fatalf("create, with the reply lost: %v", err)
	}
	p.On(first("put", 1, cloudtest.Fault{After: true, Status: 503, Code: "SlowDown"}))
	replaced, err := b.PutBytes(t.Context(), "owner", []byte("me again"), bucket.PutOption{IfMatch: created.ETag})
	if err != nil || replaced.ETag == created.ETag {
		t.Fatalf("replace, with the reply lost: %+v, %v", replaced, err)
	}
	p.On(nil)
	_, err = b.PutBytes(t.Context(), "owner", []byte("other"), bucket.PutOption{New: true})
	if !errors.Is(err, bucket.ErrExists) {
		t.Errorf("create what is there: %v", err)
	}
	_, err = b.PutBytes(t.Context(), "owner", []byte("other"), bucket.PutOption{IfMatch: created.ETag})
	if !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("replace what has changed: %v", err)
	}
	_, err = b.PutBytes(t.Context(), "nobody", []byte("other"), bucket.PutOption{IfMatch: created.ETag})
	if !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("replace what is gone: %v", err)
	}
	if got, _, err := b.Get(t.Context(), "owner", 100); string(got) != "me again" {
		t.Errorf("the owner is %q, %v", got, err)
	}
}

func TestFinalErrors(t *testing.T) {
	tests := []struct {
		name  string
		fault cloudtest.Fault
		want  error
		tries int
	}{
		{"access denied", cloudtest.Fault{Status: 403, Code: "AccessDenied"}, bucket.ErrDenied, 1},
		{"wrong key", cloudtest.Fault{Status: 403, Code: "InvalidAccessKeyId"}, bucket.ErrDenied, 1},
		{"archived", cloudtest.Fault{Status: 403, Code: "InvalidObjectState"}, bucket.ErrArchived, 1},
		{"clock", cloudtest.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, bucket.ErrClock, 1},
		{"no bucket", cloudtest.Fault{Status: 404, Code: "NoSuchBucket"}, bucket.ErrNoBucket, 1},
		{"other region", cloudtest.Fault{Status: 301, Code: "PermanentRedirect"}, bucket.ErrRegion, 1},
		{"throttled for good", cloudtest.Fault{Status: 503, Code: "SlowDown"}, bucket.ErrThrottled, 4},
	}
	b, p := front(t)
	put(t, b, "x", []byte("x"))
	for _, tt := range tests {
		p.On(func(cloudtest.Request) *cloudtest.Fault { return &tt.fault })
		p.Reset()
		_, _, err := b.Get(t.Context(), "x", 10)
		if !errors.Is(err, tt.want) || p.Total() != tt.tries {
			t.Errorf("%s: %v after %d requests, want %v after %d", tt.name, err, p.Total(), tt.want, tt.tries)
		}
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: no hint in %v", tt.name, err)
		}
	}
}

// Some providers say 403 where they mean "slow down".
func TestDeniedMeansSlow(t *testing.T) {
	p := cloudtest.Front(t, cloudtest.Start(t))
	b, err := bucket.New(bucket.Config{
		Endpoint: p.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true, Backoff: time.Millisecond,
		Account: cloudtest.Account(t, bucket.AccountConfig{DeniedMeansSlow: true}),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.On(first("put", 3, cloudtest.Fault{Status: 403, Code: "AccessDenied"}))
	put(t, b, "x", []byte("x"))
	if s := b.Account().Stats(); s.Throttled != 3 || s.Rate == 0 {
		t.Errorf("after three such replies: %+v", s)
	}
}

func TestUntrueListings(t *testing.T) {
	b, p := front(t)
	for i := range 5 {
		put(t, b, fmt.Sprint("p/", i), []byte("x"))
	}
	swap := func(a, b string) func([]byte) []byte {
		return func(x []byte) []byte {
			return []byte(strings.NewReplacer(">"+a+"<", ">"+b+"<", ">"+b+"<", ">"+a+"<").Replace(string(x)))
		}
	}
	drop := func(x []byte) []byte {
		s := string(x)
		from, to := strings.Index(s, "<Contents>"), strings.LastIndex(s, "</Contents>")
		return []byte(s[:from] + s[to+len("</Contents>"):])
	}
	faults := map[string]cloudtest.Fault{
		"an empty 200":        {Empty: true},
		"reordered keys":      {Rewrite: swap("p%2F1", "p%2F3")},
		"reordered keys, raw": {Rewrite: swap("p/1", "p/3")},
		"keys left out":       {Rewrite: drop},
		"cut":                 {Cut: 300},
		"cut, looks whole":    {Cut: 300, Shrink: true},
		"another bucket":      {Rewrite: swap("backups", "other")},
	}
	for name, f := range faults {
		p.On(func(r cloudtest.Request) *cloudtest.Fault { return &f })
		err := b.List(t.Context(), "p/", func([]bucket.Info) error { return nil })
		encoded := strings.HasPrefix(name, "reordered") // one of the two is what this server sends
		if err == nil && !encoded {
			t.Errorf("%s: the listing was believed", name)
		}
		if err != nil && !strings.HasPrefix(name, "cut") && !errors.Is(err, bucket.ErrListing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"reordered keys", "reordered keys, raw"} {
		f := faults[name]
		p.On(func(r cloudtest.Request) *cloudtest.Fault { return &f })
		if err := b.List(t.Context(), "p/", func([]bucket.Info) error { return nil }); err != nil {
			return
		}
	}
	t.Error("reordered keys were believed")
}

func TestListsManyPagesAndOddKeys(t *testing.T) {
	b, p := front(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 130 {
				if _, err := b.PutBytes(t.Context(), fmt.Sprintf("m/%02d-%03d", i, j), nil, bucket.PutOption{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	odd := "m/z a+b%20c/ü&<>"
	put(t, b, odd, nil)
	p.Reset()
	keys := list(t, b, "m/")
	if len(keys) != 1041 || keys[1040] != odd || p.Counts()["list"] != 2 {
		t.Errorf("%d keys with %v, the last is %q", len(keys), p.Counts(), keys[len(keys)-1])
	}
	p.Reset()
	if err := b.Delete(t.Context(), keys...); err != nil || p.Counts()["delete"] != 2 {
		t.Errorf("delete all: %v with %v", err, p.Counts())
	}
	if left := list(t, b, ""); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestUploadThatStalls(t *testing.T) {
	b, p := front(t)
	p.On(first("put", 1, cloudtest.Fault{Hang: true}))
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := b.PutBytes(ctx, "x", random(24<<20), bucket.PutOption{New: true}); err != nil {
		t.Fatal(err)
	}
	if s := b.Account().Stats(); s.Stalls != 1 {
		t.Errorf("%d stalls after %s", s.Stalls, time.Since(began))
	}
}

func TestCancelledAtOnce(t *testing.T) {
	b, p := front(t)
	p.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Hang: true} })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, _, err := b.Get(ctx, "x", 10)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("a cancelled get: %v after %s", err, time.Since(began))
	}
}
