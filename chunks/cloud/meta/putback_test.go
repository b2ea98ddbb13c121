package meta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

func (n *node) list() map[string]bucket.Info {
	n.t.Helper()
	found, err := n.m.Bucket.ListAll(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

func mine(context.Context) error { return nil }

// Of many objects that were replaced by others of the same size, a few are found
// at a time and all in turn. Nothing is written unless that is allowed.
func TestPutBackTakesTurns(t *testing.T) {
	a := newNode(t)
	var bundles []layout.Object
	for i := range 9 {
		o, err := a.m.Put(t.Context(), fmt.Sprintf("s/%d", i), []byte(fmt.Sprintf("content %d", i)))
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, o)
	}
	h := *a.publish(1, bundles...)
	if _, err := a.m.Newest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if restored, gone, err := a.m.PutBack(t.Context(), h, a.list(), mine); err != nil || len(gone) > 0 || !slices.Equal(restored, []string{layout.FormatKey}) {
		t.Fatalf("a bucket without a format: %v, %v, %v", restored, gone, err)
	}
	for _, o := range bundles {
		if _, err := a.m.Bucket.PutBytes(t.Context(), o.Key, make([]byte, o.Size), bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
	}
	other := errors.New("it is another one's")
	if restored, _, err := a.m.PutBack(t.Context(), h, a.list(), func(context.Context) error { return other }); !errors.Is(err, other) || len(restored) > 0 {
		t.Errorf("not allowed: %v, %v", restored, err)
	}
	all := map[string]bool{}
	for range 3 {
		a.proxy.Reset()
		restored, gone, err := a.m.PutBack(t.Context(), h, a.list(), mine)
		if err != nil || len(gone) > 0 || len(restored) > looks || a.proxy.Counts()["get"] != 2+looks {
			t.Errorf("%v, %v, %v with %v", restored, gone, err, a.proxy.Counts())
		}
		for _, key := range restored {
			all[key] = true
		}
	}
	if len(all) != len(bundles) {
		t.Errorf("in three turns %v were found", all)
	}
	for _, o := range bundles {
		if _, err := a.another().m.Get(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// A copy here that is damaged is made anew from the bucket when its turn comes.
func TestPutBackKeepsCopies(t *testing.T) {
	a := newNode(t)
	o, err := a.m.Put(t.Context(), "s/one", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	h := *a.publish(1, o)
	if _, err := a.m.Newest(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.m.FS.(*disktest.Mem).FlipBit("/meta/s-one", 3)
	if _, gone, err := a.m.PutBack(t.Context(), h, a.list(), mine); err != nil || len(gone) > 0 {
		t.Fatalf("%v, %v", gone, err)
	}
	if err := a.m.Bucket.Delete(t.Context(), o.Key); err != nil {
		t.Fatal(err)
	}
	if restored, _, err := a.m.PutBack(t.Context(), h, a.list(), mine); err != nil || !slices.Equal(restored, []string{o.Key}) {
		t.Errorf("%v, %v", restored, err)
	}
}

// A root that was saved here is put back only if it is the one in question; a
// network that fails is no loss.
func TestPutBackOfAnotherRoot(t *testing.T) {
	a := newNode(t)
	h := *a.publish(1)
	a.publish(2)
	if _, err := a.m.Newest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.m.Bucket.Delete(t.Context(), layout.RootKey(h.Seq)); err != nil {
		t.Fatal(err)
	}
	_, gone, err := a.m.PutBack(t.Context(), h, a.list(), mine)
	if e := (*GoneError)(nil); !errors.As(err, &e) || e.Hint() == "" || !slices.Equal(gone, []string{layout.RootKey(h.Seq)}) {
		t.Errorf("%v, %v", gone, err)
	}
	found := a.list()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if restored, gone, err := a.m.PutBack(ctx, h, found, mine); err == nil || len(restored)+len(gone) > 0 {
		t.Errorf("cut off: %v, %v, %v", restored, gone, err)
	}
}

// A store of before there were two copies of its format gets the second one with the
// first object that is written, or by an audit, and an audit mends it.
func TestSecondCopyOfTheFormat(t *testing.T) {
	for _, how := range []string{"write", "audit"} {
		a := newNode(t)
		h := *a.publish(1)
		if _, err := a.m.Newest(t.Context()); err != nil {
			t.Fatal(err)
		}
		if how == "write" {
			if _, err := a.m.Put(t.Context(), "s/one", []byte("content")); err != nil {
				t.Fatal(err)
			}
		} else if _, _, err := a.m.PutBack(t.Context(), h, a.list(), mine); err != nil {
			t.Fatal(err)
		}
		read := func() layout.Format {
			body, _, err := a.m.Bucket.Get(t.Context(), layout.FormatCopyKey, maxObject)
			f, derr := layout.DecodeFormat(body)
			if err != nil || derr != nil {
				return layout.Format{}
			}
			return f
		}
		if read().Store != a.m.Format.Store {
			t.Errorf("%s: there is no copy", how)
		}
		if _, err := a.m.Bucket.PutBytes(t.Context(), layout.FormatCopyKey, []byte("something else"), bucket.PutOption{}); err != nil {
			t.Fatal(err)
		}
		for range twinTurns {
			if _, gone, err := a.m.PutBack(t.Context(), h, a.list(), mine); err != nil || len(gone) > 0 {
				t.Fatal(gone, err)
			}
		}
		if read().Store != a.m.Format.Store {
			t.Errorf("%s: the copy was not mended", how)
		}
	}
}
