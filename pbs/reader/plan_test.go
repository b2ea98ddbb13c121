package reader_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A tier is a store that plans by itself, and notes what it is asked.
type tier struct {
	mu     sync.Mutex
	orders []int // of the plans: how many chunks
	asked  []int
	closed chan struct{}
	fails  error // of every chunk
}

func (t *tier) Over(_ context.Context, local *pack.Store) (catalog.Store, error) {
	return above{local, t}, nil
}
func (*tier) Writable() error                                   { return nil }
func (*tier) Relieve(context.Context) error                     { return nil }
func (*tier) Forgets(catalog.Namespace, catalog.Snapshot) error { return nil }

type above struct {
	*pack.Store
	t *tier
}

func (above) Close() error { return nil }

func (a above) Plan(x chunks.Index) chunks.Plan {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.t.orders = append(a.t.orders, x.Len())
	return plan{a, x}
}

type plan struct {
	above
	x chunks.Index
}

func (p plan) Get(ctx context.Context, i int, buf []byte) (chunks.Blob, error) {
	p.t.mu.Lock()
	p.t.asked = append(p.t.asked, i)
	fails := p.t.fails
	p.t.mu.Unlock()
	if fails != nil {
		return nil, fails
	}
	return p.above.Get(ctx, p.x.Digest(i), buf)
}

func (p plan) Close() { p.t.closed <- struct{}{} }

// A store in a bucket is told what a client is going to ask for: the index that
// it has downloaded.
func TestASessionTellsTheOrder(t *testing.T) {
	above := &tier{closed: make(chan struct{}, 2)}
	dir := t.TempDir()
	if _, err := identity.Init(disk.OS{}, dir, 0); err != nil {
		t.Fatal(err)
	}
	d, err := catalog.Open(t.Context(), catalog.Config{Dir: dir, Above: above})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	s, digests := newSiteOn(t, 20, d)
	c := connect(t, s)
	get(t, c, "/download?file-name="+archive, http.StatusOK, "")
	get(t, c, "/download?file-name="+archive, http.StatusOK, "")
	for i, d := range digests {
		blob := chunks.Blob(get(t, c, "/chunk?digest="+d.String(), http.StatusOK, ""))
		if plain, err := blob.Decode(nil, nil); err != nil || !bytes.Equal(plain, content(i)) {
			t.Errorf("chunk %d is another: %v", i, err)
		}
	}
	// While the bucket is away, a chunk is not lost: the client is to come again.
	for status, why := range map[int]error{http.StatusServiceUnavailable: chunks.ErrAway, http.StatusBadRequest: chunks.ErrMissing} {
		above.mu.Lock()
		above.fails, above.asked = fmt.Errorf("%w: it rains", why), above.asked[:20]
		above.mu.Unlock()
		get(t, c, "/chunk?digest="+digests[3].String(), status, why.Error()+": it rains")
		above.asked = above.asked[:20]
	}
	c.Close()
	<-above.closed // with the session
	if len(above.orders) != 1 || above.orders[0] != 20 || len(above.asked) != 20 || above.asked[7] != 7 || len(above.closed) != 0 {
		t.Errorf("plans for %d chunks, asked for %d, closed %d more", above.orders, above.asked, len(above.closed))
	}
}
