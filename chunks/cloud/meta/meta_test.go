package meta

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A node has the objects of a store in memory, in front of a real server.
type node struct {
	t     *testing.T
	proxy *cloudtest.Proxy
	key   *seal.Key
	m     *Objects
}

func newNode(t *testing.T) *node {
	t.Helper()
	p := cloudtest.Front(t, cloudtest.Start(t))
	key := seal.NewKey()
	signer, _ := key.Signer().Public().(ed25519.PublicKey)
	f := layout.Format{Store: format.ID{7}, KeyID: key.ID().String(), Signer: signer}
	n := &node{t, p, key, &Objects{Bucket: cloudtest.Open(t, p.URL), Format: f, Key: key}}
	return n.another()
}

// another is a node with an empty disk.
func (n *node) another() *node {
	n.t.Helper()
	mem := disktest.NewMem()
	if err := disk.MkdirAll(mem, "/meta", 0o750); err != nil {
		n.t.Fatal(err)
	}
	m := &Objects{Bucket: n.m.Bucket, FS: mem, Dir: "/meta", Format: n.m.Format, Key: n.m.Key}
	return &node{n.t, n.proxy, n.key, m}
}

// publish writes a root of a number, which names some bundles.
func (n *node) publish(number uint64, bundles ...layout.Object) *layout.Head {
	n.t.Helper()
	h := &layout.Head{Store: n.m.Format.Store, Seq: layout.Seq{Epoch: 1, N: number}, Bundles: bundles}
	body, err := layout.SignRoot(h, n.key.Signer())
	if err != nil {
		n.t.Fatal(err)
	}
	body = n.m.Sealed(layout.RootKey(h.Seq), body)
	if _, err := n.m.Bucket.PutBytes(n.t.Context(), layout.RootKey(h.Seq), body, bucket.PutOption{}); err != nil {
		n.t.Fatal(err)
	}
	return h
}

// A node that knows a root asks for newer ones only, with one request if there
// is none; after a restart it knows without a request.
func TestTheNewestRoot(t *testing.T) {
	a := newNode(t)
	for range 2 {
		if h, err := a.m.Newest(t.Context()); err != nil || h.Seq.N != 0 {
			t.Fatalf("of an empty bucket: %+v, %v", h, err)
		}
	}
	if h, _, err := a.m.Known(t.Context()); err != nil || h == nil {
		t.Errorf("that there was none yet is not known: %v", err)
	}
	a.publish(1)
	a.publish(2)
	b := a.another()
	for _, n := range []*node{a, b} {
		if h, err := n.m.Newest(t.Context()); err != nil || h.Seq.N != 2 {
			t.Fatalf("newest: %+v, %v", h, err)
		}
		n.proxy.Reset()
		if h, _, err := n.m.Known(t.Context()); err != nil || h == nil || h.Seq.N != 2 || n.proxy.Total() != 0 {
			t.Errorf("known: %+v, %v, with %d requests", h, err, n.proxy.Total())
		}
		if _, err := n.m.Newest(t.Context()); err != nil || n.proxy.Total() != 1 {
			t.Errorf("nothing new took %d requests, %v", n.proxy.Total(), err)
		}
	}
}

// What is small is read from the bucket once, and damage on the disk is read
// again; damage in the bucket is an error.
func TestObjectsAreReadOnce(t *testing.T) {
	a := newNode(t)
	o, err := a.m.Put(t.Context(), "b/one", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	b := a.another()
	read := func(requests int) {
		t.Helper()
		b.proxy.Reset()
		got, err := b.m.Get(t.Context(), o)
		if err != nil || !bytes.Equal(got, []byte("content")) || b.proxy.Total() != requests {
			t.Errorf("get: %q, %v, with %d requests, want %d", got, err, b.proxy.Total(), requests)
		}
	}
	read(1)
	read(0)
	b.m.FS.(*disktest.Mem).FlipBit("/meta/b-one", 3)
	read(1)
	if _, err := a.m.Bucket.PutBytes(t.Context(), "b/one", []byte("something else"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	read(0) // what is here is right
	if got, err := a.another().m.Get(t.Context(), o); err == nil {
		t.Errorf("what the bucket has instead was taken: %q", got)
	}
}

// The disk is full, or fails, while something is kept: the bucket's copy counts,
// and the next node reads it.
func TestAFailingDiskKeepsNothingHalf(t *testing.T) {
	a := newNode(t)
	o, err := a.m.Put(t.Context(), "b/one", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; ; step++ {
		b := a.another()
		mem := b.m.FS.(*disktest.Mem)
		mem.FailAt(mem.Ops()+step, disktest.ErrCrashed)
		_, err := b.m.Get(t.Context(), o)
		for seed := range uint64(3) {
			b.m.FS = mem.Crash(seed)
			if got, err := b.m.Get(t.Context(), o); err != nil || string(got) != "content" {
				t.Errorf("step %d: %q, %v", step, got, err)
			}
		}
		if err == nil {
			return
		}
		if !errors.Is(err, disktest.ErrCrashed) {
			t.Fatal(err)
		}
	}
}

// What no root names goes from the disk.
func TestSweep(t *testing.T) {
	a := newNode(t)
	one, err := a.m.Put(t.Context(), "b/one", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.m.Put(t.Context(), "b/two", []byte("2")); err != nil {
		t.Fatal(err)
	}
	h := a.publish(1, one)
	if _, err := a.m.Newest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.m.Sweep(h); err != nil {
		t.Fatal(err)
	}
	if names := fmt.Sprint(a.m.FS.(*disktest.Mem).Names()); names != "[/meta/b-one /meta/format.copy /meta/head]" {
		t.Errorf("the disk has %s", names)
	}
}

// Whatever is on the disk instead of a root, it is not taken for one.
func FuzzHead(f *testing.F) {
	f.Add([]byte(empty))
	f.Add([]byte("0000000000000001-0000000000000002\n{}"))
	key := seal.NewKey()
	signer, _ := key.Signer().Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, b []byte) {
		mem := disktest.NewMem()
		if err := disk.WriteFileAtomic(mem, "/head", b, 0o640); err != nil {
			t.Fatal(err)
		}
		m := &Objects{FS: mem, Dir: "/", Format: layout.Format{Store: format.ID{7}, Signer: signer}}
		if h := m.known(); h != nil && h.Seq.N != 0 {
			t.Errorf("root %s is signed by nobody", h.Seq)
		}
	})
}
