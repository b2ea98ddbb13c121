package verify

import (
	"context"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// A crowd lets a reader on when as many as are wanted read at the same time, and
// notes when there are more.
type crowd struct {
	chunks.BatchSource
	want int

	mu        sync.Mutex
	now, most int
	full      chan struct{}
}

func (c *crowd) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return c.BatchSource.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		c.mu.Lock()
		c.now++
		if c.most = max(c.most, c.now); c.most == c.want && c.full != nil {
			close(c.full)
			c.full = nil
		}
		full := c.full
		c.mu.Unlock()
		if full != nil {
			select {
			case <-full:
			case <-ctx.Done():
			}
		}
		err = fn(d, b, err)
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
		return err
	})
}

// As many files are read at the same time as are asked for: no less, or this test
// would wait for ever, and no more.
func TestReaders(t *testing.T) {
	w := newWorld(t)
	image := arch{name: "drive.img.fidx", mode: manifest.None}
	for i := range uint64(12) { // several packs of the smallest size
		image.chunks = append(image.chunks, chunktest.Blob(100+i, chunks.SlotSize))
		image.sizes = append(image.sizes, chunks.SlotSize)
	}
	w.backup(snap(t, "vm/100", 1), nil, image)
	for _, readers := range []int{1, 3} {
		v, err := New(w.Datastore, Options{Readers: readers, Workers: 8})
		w.must(err)
		c := &crowd{BatchSource: v.bulk, want: readers, full: make(chan struct{})}
		v.bulk = c
		r, err := v.Run(t.Context())
		w.must(err)
		if r.OK != 1 || c.most != readers {
			t.Errorf("with %d readers, %d read at the same time; %+v", readers, c.most, r)
		}
	}
	if _, err := New(w.Datastore, Options{Readers: 65}); err == nil {
		t.Error("65 readers are taken")
	}
}

// A plan says which snapshots a run would read, and reads none.
func TestPlan(t *testing.T) {
	w := newWorld(t)
	old, fresh := snap(t, "vm/100", 1), snap(t, "vm/100", 2)
	w.backup(old, nil, dynamic("root.pxar.didx", chunk(1)))
	w.verify(Options{})
	w.backup(fresh, nil, dynamic("root.pxar.didx", chunk(2)))
	list, err := Plan(t.Context(), w.Datastore, Options{IgnoreVerified: true})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, p := range list {
		if p.Skip != (p.Snapshot == old) || p.Size == 0 {
			t.Errorf("%+v", p)
		}
	}
	if got := w.state(fresh); got == "ok" {
		t.Error("it was verified")
	}
}
