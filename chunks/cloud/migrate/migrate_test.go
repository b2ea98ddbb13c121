package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// two are the parts of a store in an old bucket, which has it, and a new one.
type two struct {
	from, to *bucket.Bucket
	near     *cloudtest.Proxy // in front of the old one
	far      *cloudtest.Proxy
	dir      string // of the objects of the new one
	open     *layout.Opener
	packs    map[string]int64
	named    []layout.Object
}

func newTwo(t *testing.T, packs int) *two {
	t.Helper()
	w := &two{packs: map[string]int64{}}
	server := cloudtest.Start(t)
	w.near, w.far, w.dir = cloudtest.Front(t, cloudtest.Start(t)), cloudtest.Front(t, server), server.Dir
	w.from, w.to = cloudtest.Open(t, w.near.URL).Sub("hf1/x"), cloudtest.Open(t, w.far.URL).Sub("moved/hf1/x")
	key := seal.NewKey()
	w.open = layout.NewOpener(key)
	for i := range packs {
		p, body := pack(t, key, fmt.Sprint("chunk ", i))
		w.put(t, layout.PackKey(p.ID), body)
		w.packs[layout.PackKey(p.ID)] = p.Size
	}
	for _, key := range []string{"i/1", "s/1", "r/1", layout.FormatKey, layout.OwnerKey, "0canary-x"} {
		w.put(t, key, []byte("content of "+key))
		if strings.HasPrefix(key, "i/") || strings.HasPrefix(key, "s/") {
			w.named = append(w.named, layout.Object{Key: key, Sum: layout.SumOf([]byte("content of " + key))})
		}
	}
	return w
}

func (w *two) put(t *testing.T, key string, body []byte) {
	t.Helper()
	if _, err := w.from.PutBytes(t.Context(), key, body, bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
}

// pack is a sealed pack of one chunk.
func pack(t *testing.T, key *seal.Key, text string) (layout.Pack, []byte) {
	t.Helper()
	f, err := disktest.NewMem().OpenFile("/pack", 0o102, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w, err := layout.NewPackWriter(f, format.ID{1}, 1, key)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := chunks.Encode(nil, []byte(text), chunks.EncodeOptions{})
	if err == nil {
		err = w.Add(chunks.Sum([]byte(text)), blob)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, p.Size)
	if _, err := f.ReadAt(body, 0); err != nil {
		t.Fatal(err)
	}
	return p, body
}

func (w *two) look(t *testing.T) *State {
	t.Helper()
	s, err := Look(t.Context(), w.from, w.to)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// settle waits until the server has done what was on its way when somebody was
// killed: a process does not start again as fast.
func (w *two) settle(t *testing.T) {
	t.Helper()
	count := func() (n int) {
		_ = filepath.WalkDir(w.dir, func(string, fs.DirEntry, error) error { n++; return nil })
		return n
	}
	for before, now := -1, count(); before != now; before, now = now, count() {
		time.Sleep(50 * time.Millisecond)
	}
}

// same wants all but owner and canary to be in the new bucket, byte for byte.
func (w *two) same(t *testing.T) {
	t.Helper()
	err := w.from.List(t.Context(), "", func(page []bucket.Info) error {
		for _, o := range page {
			want, _, err := w.from.Get(t.Context(), o.Key, 1<<20)
			if err != nil {
				return err
			}
			got, _, err := w.to.Get(t.Context(), o.Key, 1<<20)
			if stays := rank(o.Key) < 0; stays != errors.Is(err, bucket.ErrNotFound) || !stays && !bytes.Equal(got, want) {
				t.Errorf("%s: %d of %d bytes, %v", o.Key, len(got), len(want), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A copy that is killed twenty times, with requests on their way, loses nothing and
// writes next to nothing twice; roots come behind what they name.
func TestKilledTwentyTimes(t *testing.T) {
	w := newTwo(t, 500)
	var mu sync.Mutex
	puts, twice := map[string]int{}, 0
	var order []string
	w.far.On(func(r cloudtest.Request) *cloudtest.Fault {
		if r.Class == "put" {
			mu.Lock()
			puts[r.Key]++
			if _, err := os.Stat(filepath.Join(w.dir, filepath.FromSlash(r.Key))); err == nil {
				twice++ // it was there already
			}
			order = append(order, r.Key)
			mu.Unlock()
		}
		return nil
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for kills := 0; ; kills++ {
		s := w.look(t)
		ctx, kill := context.WithCancel(t.Context())
		var left atomic.Int64
		if left.Store(int64(1 + rng.IntN(8))); kills >= 20 {
			left.Store(1 << 40)
		}
		_, err := s.Copy(ctx, w.open, func(Sum) {
			if left.Add(-1) == 0 {
				kill()
			}
		})
		kill()
		w.settle(t)
		if err == nil {
			if kills < 20 {
				t.Fatalf("done after %d kills", kills)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	w.same(t)
	t.Logf("%d objects, %d were sent again that were there", len(puts), twice)
	if twice*100 > len(puts) {
		t.Errorf("%d of %d objects were copied twice", twice, len(puts))
	}
	if len(puts) != 504 {
		t.Errorf("%d objects were copied, want 504", len(puts))
	}
	if last := order[len(order)-1]; !strings.HasSuffix(last, "/format") || !strings.Contains(order[len(order)-2], "/r/") {
		t.Errorf("the last were %v", order[len(order)-3:])
	}
	if err := Check(t.Context(), w.to, w.named, w.packs); err != nil {
		t.Error(err)
	}
	if s := w.look(t); s.Left.Objects != 0 || s.Done.Objects != 504 {
		t.Errorf("left when it is done: %+v", s)
	}
}

// What is damaged in the old bucket is not copied as if it were whole, and the work
// says so.
func TestDamageIsNotCopied(t *testing.T) {
	w := newTwo(t, 3)
	for _, at := range []int64{10, 70, 150} { // head, a chunk, the end
		w.near.On(func(r cloudtest.Request) *cloudtest.Fault {
			if r.Class == "get" && strings.Contains(r.Key, "/p/") {
				return &cloudtest.Fault{Flip: at}
			}
			return nil
		})
		_, err := w.look(t).Copy(t.Context(), w.open, nil)
		if err == nil || at > 64 && !errors.Is(err, bucket.ErrShort) {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
	w.near.On(nil)
	if err := Check(t.Context(), w.to, w.named, w.packs); err == nil {
		t.Error("the copy counts without its packs")
	}
	if _, err := w.look(t).Copy(t.Context(), w.open, nil); err != nil {
		t.Error(err)
	}
	w.same(t)
	w.named[0].Sum = layout.SumOf(nil)
	if err := Check(t.Context(), w.to, w.named, w.packs); !errors.Is(err, ErrDamaged) {
		t.Errorf("an index object that is another one: %v", err)
	}
}

// A plan has the requests that the copy makes, and what they cost on either side.
func TestThePlanIsWhatIsDone(t *testing.T) {
	w := newTwo(t, 40)
	s := w.look(t)
	dear := prices.Provider{ID: "a", Egress: 100_000, Get: 1, Storage: 1000}
	p := s.Plan(1<<20, dear, prices.Provider{ID: "b", Put: 5, Currency: "EUR"})
	if p.From.Egress <= 0 || math.Abs(p.To.Requests-5*float64(p.Requests["put"])/1000) > 1e-9 || p.ToUnit != "EUR" || p.MonthFrom <= 0 || p.MonthTo != 0 {
		t.Errorf("plan: from %+v, to %+v, %v", p.From, p.To, p.Requests)
	}
	if want := float64(s.Left.Bytes) / (1 << 20) / 3600; p.Hours != want {
		t.Errorf("%f hours, want %f", p.Hours, want)
	}
	w.near.Reset()
	w.far.Reset()
	if _, err := s.Copy(t.Context(), w.open, nil); err != nil {
		t.Fatal(err)
	}
	if p.Requests["list"] != 2 || s.Lists != 2 {
		t.Errorf("planned %v, the look took %d listings", p.Requests, s.Lists)
	}
	if gets, puts := w.near.Counts()["get"], w.far.Counts()["put"]; int64(gets) != p.Requests["get"] || int64(puts) != p.Requests["put"] {
		t.Errorf("%d gets and %d puts, planned were %v", gets, puts, p.Requests)
	}
	if p.FromUnit != "USD" || !p.FromKnown || s.Plan(1, prices.Provider{}, dear).FromKnown || s.Plan(1, dear, prices.Provider{}).ToKnown {
		t.Errorf("whose prices are known: %+v", p)
	}
	var csv strings.Builder
	if err := s.Manifest(&csv); err == nil || csv.Len() > 0 || !strings.Contains(err.Error(), "within one provider") { // a list that copied nothing there
		t.Errorf("manifest for another provider: %v\n%.200s", err, csv.String())
	}
}

// An object of that name and of another length is nobody's mistake to be covered up.
func TestAnotherObjectIsThere(t *testing.T) {
	w := newTwo(t, 1)
	if _, err := w.to.PutBytes(t.Context(), "i/1", []byte("else"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.look(t).Copy(t.Context(), w.open, nil); err == nil || !strings.Contains(err.Error(), "i/1 has 4 bytes") {
		t.Errorf("copy: %v", err)
	}
}

// Where the store keeps no sums, each chunk of a pack is looked at.
func TestSound(t *testing.T) {
	key := seal.NewKey()
	for _, k := range []*seal.Key{nil, key} {
		p, body := pack(t, k, "one")
		o, open := bucket.Info{Key: layout.PackKey(p.ID), Size: p.Size}, layout.NewOpener(k)
		if err := sound(open, o, body); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{p.Rows[0].Off, p.Rows[0].Off + 20, p.Rows[0].Off + 100, p.Size - 1} {
			damaged := bytes.Clone(body)
			damaged[at] ^= 1
			if err := sound(open, o, damaged); !errors.Is(err, ErrDamaged) {
				t.Errorf("sealed %t, byte %d flipped: %v", k != nil, at, err)
			}
		}
		if err := sound(open, o, body[1:]); !errors.Is(err, ErrDamaged) {
			t.Errorf("sealed %t, cut: %v", k != nil, err)
		}
	}
}

// Within one store nothing passes through here: a request for each object, and no
// bytes. A store that does not copy is read and written.
func TestWithinOneStore(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		w := newTwo(t, 20)
		w.far, w.to = w.near, cloudtest.Open(t, w.near.URL).Sub("moved/hf1/x")
		s := w.look(t)
		p := s.Plan(1<<20, prices.Provider{ID: "a", Egress: 100, Put: 5}, prices.Provider{ID: "a", Egress: 100, Put: 5})
		if !s.Within || p.From.Egress != 0 || p.Requests["get"] != 0 || p.Requests["put"] != 24 || p.Hours != 0 {
			t.Errorf("plan: %+v, from %+v", p.Requests, p.From)
		}
		var csv strings.Builder
		if err := s.Manifest(&csv); err != nil || strings.Count(csv.String(), "\n") != 24 || !strings.Contains(csv.String(), cloudtest.Name+",hf1/x/p/") {
			t.Errorf("manifest: %v\n%.200s", err, csv.String())
		}
		aside, err := Look(t.Context(), w.from, cloudtest.Open(t, w.near.URL).Sub("elsewhere"))
		if err != nil {
			t.Fatal(err)
		}
		if err := aside.Manifest(&csv); err == nil || !strings.Contains(err.Error(), "keep the keys") {
			t.Errorf("manifest for other keys: %v", err)
		}
		w.near.Reset()
		w.near.On(func(r cloudtest.Request) *cloudtest.Fault {
			if refuses && r.HTTP.Header.Get("X-Amz-Copy-Source") != "" {
				return &cloudtest.Fault{Status: 501, Code: "NotImplemented"}
			}
			return nil
		})
		before := w.to.Account().Stats()
		if _, err := s.Copy(t.Context(), w.open, nil); err != nil {
			t.Fatal(err)
		}
		after, counts := w.to.Account().Stats(), w.near.Counts()
		if sent := after.BytesOut - before.BytesOut; !refuses && (sent != 0 || counts["get"] != 0 || counts["put"] != 24) || refuses && counts["get"] != 24 {
			t.Errorf("refuses %t: %v, %d bytes were sent", refuses, counts, sent)
		}
		w.near.On(nil)
		w.same(t)
		if err := Check(t.Context(), w.to, w.named, w.packs); err != nil {
			t.Error(err)
		}
		if s := w.look(t); s.Left.Objects != 0 {
			t.Errorf("left: %+v", s.Left)
		}
	}
}

// What was replaced since it was listed is not copied, and what is there already of
// another length is not written over.
func TestWithinOneStoreNothingIsMixedUp(t *testing.T) {
	w := newTwo(t, 1)
	w.to = cloudtest.Open(t, w.near.URL).Sub("moved/hf1/x")
	s := w.look(t)
	w.put(t, "i/1", []byte("another content"))
	if _, err := s.Copy(t.Context(), w.open, nil); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("replaced: %v", err)
	}
	if _, err := w.to.PutBytes(t.Context(), "i/1", []byte("else"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.look(t).Copy(t.Context(), w.open, nil); err == nil || !strings.Contains(err.Error(), "i/1 has 4 bytes") {
		t.Errorf("of another length: %v", err)
	}
}
