package bucket_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A conditional write whose answer was lost asks what has become of it before it
// sends its body again: some stores break the connection of a large body that they
// refuse, and would be sent it for ever.
func TestALostAnswerIsAskedFor(t *testing.T) {
	b, p := front(t)
	body := random(3 << 20)
	lost := cloudtest.Fault{After: true, Reset: true}
	never := cloudtest.Fault{Reset: true}
	theirs := put2(t, b, "replaced", "theirs")
	put(t, b, "taken", []byte("somebody else's"))
	long := bytes.Clone(body)
	put(t, b, "as long", long)
	mine := put2(t, b, "mine", "before")
	tests := []struct {
		name, key  string
		opt        bucket.PutOption
		fault      cloudtest.Fault
		want       error
		puts, asks int
	}{
		{"stored", "a", bucket.PutOption{New: true}, lost, nil, 1, 1},
		{"not stored", "b", bucket.PutOption{New: true}, never, nil, 2, 1},
		{"somebody else's is there", "taken", bucket.PutOption{New: true}, never, bucket.ErrExists, 1, 1},
		{"one of the same length is there", "as long", bucket.PutOption{New: true}, never, bucket.ErrExists, 1, 1},
		{"replaced by us", "mine", bucket.PutOption{IfMatch: mine}, lost, nil, 1, 1},
		{"replaced by somebody else", "replaced", bucket.PutOption{IfMatch: `"0123"`}, never, bucket.ErrChanged, 1, 1},
		{"not replaced", "replaced", bucket.PutOption{IfMatch: theirs}, never, nil, 2, 1},
		{"without a condition", "c", bucket.PutOption{}, lost, nil, 2, 0},
	}
	for _, tt := range tests {
		p.On(first("put", 1, tt.fault))
		p.Reset()
		info, err := b.PutBytes(t.Context(), tt.key, body, tt.opt)
		n := p.Counts()
		if !errors.Is(err, tt.want) || n["put"] != tt.puts || n["head"] != tt.asks {
			t.Errorf("%s: %v with %v, want %v with %d puts and %d heads", tt.name, err, n, tt.want, tt.puts, tt.asks)
		}
		p.On(nil)
		got, at, gerr := b.Get(t.Context(), tt.key, 4<<20)
		if tt.want == nil && (!bytes.Equal(got, body) || at.ETag != info.ETag || gerr != nil) {
			t.Errorf("%s: the store has %d bytes with ETag %s, told was %s, %v", tt.name, len(got), at.ETag, info.ETag, gerr)
		}
	}
	if got, _, err := b.Get(t.Context(), "taken", 100); string(got) != "somebody else's" {
		t.Errorf("somebody else's object is %q now, %v", got, err)
	}
}

// The question may go wrong as well; then it is asked again, and nothing is sent.
func TestAskingGoesWrongToo(t *testing.T) {
	b, p := front(t)
	put, head := first("put", 1, cloudtest.Fault{After: true, Reset: true}), first("head", 2, cloudtest.Fault{Status: http.StatusInternalServerError})
	p.On(func(r cloudtest.Request) *cloudtest.Fault {
		if f := put(r); f != nil {
			return f
		}
		return head(r)
	})
	if _, err := b.PutBytes(t.Context(), "x", []byte("x"), bucket.PutOption{New: true}); err != nil {
		t.Error(err)
	}
	if n := p.Counts(); n["put"] != 1 || n["head"] != 3 {
		t.Errorf("%v, want 1 put and 3 heads", n)
	}
}

func put2(t *testing.T, b *bucket.Bucket, key, body string) (etag string) {
	t.Helper()
	info, err := b.PutBytes(t.Context(), key, []byte(body), bucket.PutOption{})
	if err != nil {
		t.Fatal(err)
	}
	return info.ETag
}

// A store of which each attempt gets a few bytes is given up like one that sends
// nothing: it would take for ever.
func TestATrickleEnds(t *testing.T) {
	b, p := front(t)
	put(t, b, "x", random(100_000))
	p.On(func(r cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Cut: 40} })
	p.Reset()
	err := b.GetRange(t.Context(), "x", make([]byte, 100_000), 0, 100_000)
	if n := p.Counts()["get"]; err == nil || n != 4 {
		t.Errorf("%v after %d attempts, want an error after 4", err, n)
	}
}

// A listing whose rest does not come is cut like any other transfer.
func TestAListingThatStalls(t *testing.T) {
	p := cloudtest.Front(t, cloudtest.Start(t))
	b, err := bucket.New(bucket.Config{
		Endpoint: p.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true,
		Account: cloudtest.Account(t, bucket.AccountConfig{}), Attempts: 2, Backoff: time.Millisecond, Stall: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Stall: 50} })
	err = b.List(t.Context(), "", func([]bucket.Info) error { return nil })
	if n := p.Counts()["list"]; !errors.Is(err, bucket.ErrStalled) || n != 2 {
		t.Errorf("%v after %d attempts, want %v after 2", err, n, bucket.ErrStalled)
	}
}

// A store that takes requests and never answers is told from one that refuses.
func TestAStoreThatDoesNotAnswer(t *testing.T) {
	p := cloudtest.Front(t, cloudtest.Start(t))
	b, err := bucket.New(bucket.Config{
		Endpoint: p.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true,
		Account: cloudtest.Account(t, bucket.AccountConfig{Answer: 50 * time.Millisecond}), Attempts: 2, Backoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Hang: true} })
	var hinted interface{ Hint() string }
	if _, err := b.Head(t.Context(), "x"); !errors.Is(err, bucket.ErrSilent) || !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("%v, want %v and a hint", err, bucket.ErrSilent)
	}
}
