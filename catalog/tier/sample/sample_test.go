package sample

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
)

// A sample takes about a request for each stretch, and sees a byte that changed in
// the bucket, whatever the cache says; what is damaged is denied.
func TestSample(t *testing.T) {
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const size, n = 64 << 10, 64
	proxy, tr := filled(t, size, n)
	opt := Options{Depth: -1, Stretches: 6, Random: rand.New(rand.NewPCG(1, 2))}
	r, err := Run(t.Context(), tr.Datastore(), opt)
	if err != nil || r.Stretches != 0 {
		t.Fatalf("all is on the disk still: %+v, %v", r, err)
	}
	_, err = tr.Offload(t.Context(), tier.OffloadOptions{})
	must(err)
	proxy.Reset()
	r, err = Run(t.Context(), tr.Datastore(), opt)
	if err != nil || r.Stretches != 6 || r.Chunks < 6 || r.Bad() != 0 || proxy.Total() > 8 {
		t.Errorf("%+v with %d requests: %v", r, proxy.Total(), err)
	}

	proxy.On(func(q cloudtest.Request) *cloudtest.Fault {
		if q.Class == "get" && strings.Contains(q.Key, "/p/") {
			return &cloudtest.Fault{Flip: 200}
		}
		return nil
	})
	var told []string
	opt.Bad = func(text string) { told = append(told, text) }
	r, err = Run(t.Context(), tr.Datastore(), opt)
	if err != nil || r.Damaged == 0 || len(told) != r.Bad() || tr.Datastore().Chunks().Quarantined().Len() != r.Damaged {
		t.Errorf("flipped bytes: %+v, %v, %d denied: %v", r, told, tr.Datastore().Chunks().Quarantined().Len(), err)
	}

	proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Status: 403, Code: "AccessDenied"} })
	before := tr.Datastore().Chunks().Quarantined().Len()
	if _, err = Run(t.Context(), tr.Datastore(), opt); err == nil || tr.Datastore().Chunks().Quarantined().Len() != before {
		t.Errorf("a bucket that cannot be read: %v, and chunks are denied for it", err)
	}
}

// filled is a datastore in a bucket with a snapshot of that many chunks.
func filled(t *testing.T, size, n int) (*cloudtest.Proxy, *tier.Tier) {
	t.Helper()
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	proxy := cloudtest.Front(t, cloudtest.Start(t))
	key, err := seal.NewIdentity()
	must(err)
	cfg := tier.Config{Dir: filepath.Join(t.TempDir(), "x"), Bucket: cloudtest.Open(t, proxy.URL), Node: "home", Key: key, CacheBytes: 8 << 20}
	must(tier.Create(t.Context(), cfg, false, key.String()))
	tr, err := tier.Open(t.Context(), cfg)
	must(err)
	t.Cleanup(func() { must(tr.Close()) })

	snap := naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "100"}, Time: 1700000000}
	w, err := tr.Datastore().Begin(context.Background(), "", snap, "root@pam")
	must(err)
	b, err := chunks.NewFixedBuilder(int64(n*size), int64(size))
	must(err)
	part := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	for i := range n {
		rng.Read(part)
		blob, err := chunks.Encode(nil, part, chunks.EncodeOptions{})
		must(err)
		_, err = w.Session().Put(t.Context(), chunks.Sum(part), blob)
		must(err, b.Put(int64(i*size), int64(size), chunks.Sum(part)))
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	must(err)
	m := manifest.New(snap)
	must(w.PutIndex("disk.img.fidx", x), m.Add(manifest.File{Name: "disk.img.fidx", CryptMode: manifest.None, Size: uint64(x.Size()), Csum: x.Csum()}), w.Finish(t.Context(), m))

	return proxy, tr
}

// A sample of one hundredth of a bucket reads what it said, and not more than 1.1 %: as
// much of 2 TB are 22 GB a week, and not the 2 TB that were read in vain.
func TestSampleWithinABudget(t *testing.T) {
	proxy, tr := filled(t, 16<<10, 4096)
	if _, err := tr.Offload(t.Context(), tier.OffloadOptions{}); err != nil {
		t.Fatal(err)
	}
	stored := tr.Stats().Bytes
	for _, chunks := range []int{1, 4, 16} {
		opt := Options{Depth: -1, MaxBytes: stored / 100, Chunks: chunks, Cost: tr.Cost, Random: rand.New(rand.NewPCG(1, 2))}
		c, err := Choose(t.Context(), tr.Datastore(), opt)
		if err != nil {
			t.Fatal(err)
		}
		proxy.Reset()
		ctx, meter := bucket.Metered(t.Context())
		r, err := c.Run(ctx, tr.Datastore(), opt)
		in, _ := meter.Bytes()
		t.Logf("of %d bytes %d were to be read, and %d were, in %d chunks and %d requests", stored, c.Bytes, in, r.Chunks, proxy.Total())
		if err != nil || r.Bad() > 0 || r.Chunks < 20 {
			t.Fatalf("%+v, %v", r, err)
		}
		if in > stored*11/1000 || in < stored*8/1000 {
			t.Errorf("%d of %d bytes were read, want about a hundredth", in, stored)
		}
		if off := in - c.Bytes; 20*max(off, -off) > in || int64(proxy.Total()) != c.Requests {
			t.Errorf("%d bytes in %d requests were said, and %d in %d were read", c.Bytes, c.Requests, in, proxy.Total())
		}
	}
	if c, err := Choose(t.Context(), tr.Datastore(), Options{Depth: -1, MaxBytes: 100, Cost: tr.Cost}); err != nil || len(c.Stretches) > 0 {
		t.Errorf("with 100 bytes %d stretches are read, %v", len(c.Stretches), err)
	}
}
