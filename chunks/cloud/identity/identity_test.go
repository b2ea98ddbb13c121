package identity

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

func newKey(t *testing.T) *age.X25519Identity {
	t.Helper()
	key, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func options(t *testing.T, encrypt bool) Options {
	t.Helper()
	key := newKey(t)
	return Options{Encrypt: encrypt, Recipients: []age.Recipient{key.Recipient()}, Proof: key}
}

// A bucket holds one store under a prefix, several under several.
func TestOneStoreAPrefix(t *testing.T) {
	b := cloudtest.Open(t, cloudtest.Front(t, cloudtest.Start(t)).URL)
	id, err := Create(t.Context(), b, options(t, true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), b, options(t, true)); !errors.Is(err, ErrTaken) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := Create(t.Context(), b.Sub("other"), options(t, false)); err != nil {
		t.Errorf("below another prefix: %v", err)
	}
	stores, err := Stores(t.Context(), b)
	if err != nil || len(stores) != 1 || stores[0] != id {
		t.Errorf("stores: %v, %v", stores, err)
	}
	part := b.Sub(layout.Root + id.String())
	if f, err := ReadFormat(t.Context(), part, id); err != nil || f.Store != id || f.KeyID == "" || f.PackBytes != defaultPack {
		t.Errorf("format: %+v, %v", f, err)
	}
	if o, _, err := ReadOwner(t.Context(), part, id); err != nil || o.Node != "" {
		t.Errorf("owner of a store that nobody owned yet: %+v, %v", o, err)
	}
}

// A recovery key that does not open the store is found when the store is made,
// and leaves nothing behind.
func TestTheWrongRecoveryKeyIsFoundAtOnce(t *testing.T) {
	b := cloudtest.Open(t, cloudtest.Front(t, cloudtest.Start(t)).URL)
	opt := options(t, true)
	opt.Proof = newKey(t)
	if _, err := Create(t.Context(), b, opt); err == nil || !strings.Contains(err.Error(), "the recovery key does not open") {
		t.Errorf("create: %v", err)
	}
	if stores, err := Stores(t.Context(), b); err != nil || len(stores) != 0 {
		t.Errorf("stores: %v, %v", stores, err)
	}
	opt.Proof = nil
	if _, err := Create(t.Context(), b, opt); err == nil || !strings.Contains(err.Error(), "no recovery key") {
		t.Errorf("create without: %v", err)
	}
}

// A listing that cannot be trusted does not make a bucket empty: a store made
// there would hide another.
func TestAnUntrueListingIsNotAnEmptyBucket(t *testing.T) {
	p := cloudtest.Front(t, cloudtest.Start(t))
	b := cloudtest.Open(t, p.URL)
	for name, f := range map[string]cloudtest.Fault{
		"empty": {Empty: true}, "refused": {Status: http.StatusForbidden, Code: "AccessDenied"}, "cut": {Cut: 40, Shrink: true},
	} {
		p.On(func(r cloudtest.Request) *cloudtest.Fault {
			if r.Class == "list" {
				return &f
			}
			return nil
		})
		if id, err := Create(t.Context(), b, options(t, false)); err == nil {
			t.Errorf("%s: store %s was made", name, id)
		}
	}
}

// What lies in a bucket instead of a store is not taken for one.
func TestWhatIsNoStore(t *testing.T) {
	b := cloudtest.Open(t, cloudtest.Front(t, cloudtest.Start(t)).URL)
	id := format.ID{1, 2, 3}
	part := b.Sub(layout.Root + id.String())
	if _, err := ReadFormat(t.Context(), part, id); !errors.Is(err, ErrNoStore) {
		t.Errorf("nothing: %v", err)
	}
	for name, text := range map[string]string{
		"no JSON": "{", "another program's": `{"format":"other"}`, "another store's": `{"format":"holdfast-cloud","version":1,"store":"ffffffffffffffffffffffffffffffff"}`,
		"a later version": `{"format":"holdfast-cloud","version":99,"store":"` + id.String() + `"}`,
	} {
		for _, key := range []string{layout.FormatKey, layout.OwnerKey} {
			if _, err := part.PutBytes(t.Context(), key, []byte(text), bucket.PutOption{}); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := ReadFormat(t.Context(), part, id); err == nil {
			t.Errorf("%s: format %+v", name, f)
		}
		if o, _, err := ReadOwner(t.Context(), part, id); err == nil && name != "a later version" {
			t.Errorf("%s: owner %+v", name, o)
		}
	}
}

// The secret of a directory stays the same.
func TestSecret(t *testing.T) {
	mem := disktest.NewMem()
	first, err := Secret(mem, "/secret")
	if err != nil || first == "" {
		t.Fatal(err)
	}
	if again, err := Secret(mem, "/secret"); err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	if other, err := Secret(disktest.NewMem(), "/secret"); err != nil || other == first {
		t.Errorf("two directories have the same secret: %v", err)
	}
}

// A node that is killed while its request is on its way finds that somebody came first
// when it starts again: itself. (It took itself for another node, and every datastore
// in a bucket was read-only for good.)
func TestALateRequestOfOursKeepsNobodyOut(t *testing.T) {
	ctx := t.Context()
	b := cloudtest.Open(t, cloudtest.Start(t).URL)
	file := filepath.Join(t.TempDir(), "owner")
	id := format.NewID()
	by := func(node, secret string, n int) layout.Owner {
		return layout.Owner{Store: id, Node: node, Epoch: 1, Secret: secret, Until: time.Unix(int64(1e9+n), 0).UTC()}
	}
	first, err := TakeOwner(ctx, disk.OS{}, file, b, by("home", "s", 1), "")
	if err != nil {
		t.Fatal(err)
	}
	killed, kill := context.WithCancel(ctx)
	kill()
	for n := 2; n < 5; n++ {
		if _, err := TakeOwner(killed, disk.OS{}, file, b, by("home", "s", n), first); !errors.Is(err, context.Canceled) {
			t.Fatalf("killed: %v", err)
		}
	}
	if _, err := WriteOwner(ctx, b, by("home", "s", 3), first); err != nil { // one of them arrives
		t.Fatal(err)
	}
	now, err := TakeOwner(ctx, disk.OS{}, file, b, by("home", "s", 5), first) // asked for before that
	if err != nil {
		t.Fatalf("its own request keeps it out: %v", err)
	}
	if o, etag, err := ReadOwner(ctx, b, id); err != nil || etag != now || !o.Until.Equal(by("", "", 5).Until) {
		t.Errorf("the owner is %+v, %v", o, err)
	}

	// Another node, and a copy of this one: neither wrote what is in the file.
	for _, o := range []layout.Owner{by("other", "t", 6), by("home", "s", 7)} {
		if now, err = WriteOwner(ctx, b, o, now); err != nil {
			t.Fatal(err)
		}
		if _, err := TakeOwner(ctx, disk.OS{}, file, b, by("home", "s", 8), first); !errors.Is(err, bucket.ErrChanged) {
			t.Errorf("after %+v: %v", o, err)
		}
	}
}
