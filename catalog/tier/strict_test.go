package tier

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A strict provider answers 403 to more than 100 requests in 3 seconds.
type strict struct {
	mu           sync.Mutex
	seen         []time.Time
	all, refused int
}

func (s *strict) hook(cloudtest.Request) *cloudtest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.seen) > 0 && now.Sub(s.seen[0]) >= 3*time.Second {
		s.seen = s.seen[1:]
	}
	if s.all++; len(s.seen) >= 100 {
		s.refused++
		return &cloudtest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
	}
	s.seen = append(s.seen, now)
	return nil
}

// Two nodes with one account of such a provider back up, restore and collect garbage
// at the same time, and of what they ask next to nothing is refused.
func TestAStrictProviderIsEnoughForTwo(t *testing.T) {
	s, provider := newSite(t), &strict{}
	open := func(name string) *Tier {
		acc := cloudtest.Account(t, bucket.AccountConfig{Requests: 30, DeniedMeansSlow: true})
		acc.Share(0.5)
		b, err := bucket.New(bucket.Config{
			Endpoint: s.proxy.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, Prefix: name, PathStyle: true, Can: cloudtest.Full, Account: acc,
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.config(name)
		cfg.Bucket, cfg.CacheBytes = b, 0
		acc.Share(100) // to get ready is no part of it
		s.create(cfg, true)
		tr, _ := s.open(cfg)
		acc.Share(0.5)
		return tr
	}
	tiers := []*Tier{open("a"), open("b")}
	s.proxy.On(provider.hook)
	var nodes sync.WaitGroup
	for n, tr := range tiers {
		nodes.Go(func() {
			const rounds = 11
			for i := range rounds {
				text, content := fmt.Sprintf("vm/100/2026-01-%02dT00:00:00Z", i+1), image(uint64(100*n+i), 4*chunkSize)
				if err := backup(t, tr.Datastore(), text, content); err != nil {
					t.Error(err)
					return
				}
				if _, err := tr.Offload(t.Context(), OffloadOptions{}); err != nil {
					t.Error(err)
					return
				}
				restored(t, tr, text)
				if i == 0 {
					continue
				}
				if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, fmt.Sprintf("vm/100/2026-01-%02dT00:00:00Z", i))); err != nil {
					t.Error(err)
				}
				if _, err := tr.Datastore().EmptyTrash(t.Context(), true); err != nil {
					t.Error(err)
				}
				if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	nodes.Wait()
	provider.mu.Lock()
	defer provider.mu.Unlock()
	t.Logf("%d of %d requests were refused", provider.refused, provider.all)
	if provider.all < 300 || 50*provider.refused > provider.all {
		t.Errorf("%d of %d requests were refused, want at most 2 %%", provider.refused, provider.all)
	}
}

// restored reads a snapshot.
func restored(t *testing.T, tr *Tier, text string) {
	r, err := tr.Datastore().OpenSnapshot(t.Context(), "", snapshot(t, text))
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	if err != nil {
		t.Error(err)
		return
	}
	for _, d := range x.All() {
		b, err := r.Chunks().Get(t.Context(), d, nil)
		if err == nil {
			err = b.Verify(d, nil)
		}
		if err != nil {
			t.Errorf("restore %s: %v", text, err)
		}
	}
}
