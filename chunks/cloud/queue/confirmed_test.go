package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// After a crash packs that were sent are looked for several at a time, and none is
// taken for gone before the bucket has shown that it is the right one.
func TestSentPacksAreLookedForTogether(t *testing.T) {
	s := newSite(t)
	var packs []layout.Pack
	for i := range 2 * looks {
		p, _ := s.push(fmt.Sprint("pack ", i))
		packs = append(packs, p)
	}
	if err := s.q.SendAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.q.Doubt()
	var now atomic.Int32
	together := make(chan struct{})
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "head" {
			if now.Add(1) == looks { // the first wait for the last: one by one, this would hang
				close(together)
			}
			<-together
		}
		return nil
	})
	none := func(format.ID) bool { return false }
	if got, err := s.q.Confirmed(t.Context(), none); err != nil || len(got) != len(packs) {
		t.Fatalf("%d of %d packs are confirmed, %v", len(got), len(packs), err)
	}
	s.proxy.On(nil)
	s.q.Doubt()
	if err := s.q.Bucket.Delete(t.Context(), layout.PackKey(packs[3].ID)); err != nil {
		t.Fatal(err)
	}
	asked, away := 0, errors.New("it is another bucket")
	s.q.There = func(context.Context) error { asked++; return away }
	if _, err := s.q.Confirmed(t.Context(), none); !errors.Is(err, away) || asked != 1 {
		t.Errorf("in another bucket: %v, asked %d times", err, asked)
	}
	away = nil
	if got, err := s.q.Confirmed(t.Context(), none); err != nil || len(got) != len(packs)-1 || asked != 2 {
		t.Errorf("%d packs are confirmed, want %d; %v, asked %d times", len(got), len(packs)-1, err, asked)
	}
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault {
		return &cloudtest.Fault{Status: 404, Code: "NoSuchBucket"} // of which a HEAD says only the number
	})
	s.q.Doubt()
	s.q.There = func(ctx context.Context) error {
		_, _, err := s.q.Bucket.Get(ctx, layout.FormatKey, 1000)
		return err
	}
	if _, err := s.q.Confirmed(t.Context(), none); !errors.Is(err, bucket.ErrNoBucket) {
		t.Errorf("without the bucket: %v", err)
	}
	s.proxy.On(nil)
	if waiting, err := s.q.Waiting(); err != nil || len(waiting) != len(packs)-1 {
		t.Errorf("%d packs are left in the queue, %v", len(waiting), err)
	}
}
