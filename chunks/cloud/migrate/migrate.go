// Package migrate copies a store from one bucket to another: to another region, or
// to another provider.
//
// It keeps no state. All objects but the owner are written once and never changed,
// so what the other bucket has under the same name with the same length is done,
// and a copy that was cut off goes on where it was, while the store is used. Roots
// are copied behind all that they name, and the format last: before that nobody
// takes what is there for a store. Nothing is changed in the old bucket.
package migrate

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
)

// A Sum is of some objects.
type Sum struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (s *Sum) add(n int64) { s.Objects, s.Bytes = s.Objects+1, s.Bytes+n }

// A State says what of a store is where.
type State struct {
	Done     Sum   `json:"done"` // both buckets have it
	Left     Sum   `json:"left"`
	Archived Sum   `json:"archived"` // of what is left: it has to be thawed first
	Lists    int64 `json:"lists"`    // that were made of both
	Within   bool  `json:"within"`   // the store copies from one bucket to the other
	from, to *bucket.Bucket
	left     []bucket.Info // in the order in which they have to be copied

	Place *Place `json:"-"` // if given, small objects are copied only while nobody else came there

	there  map[string]int64 // what the other bucket has, by length
	lists  [2]int64         // from, to
	cannot atomic.Bool      // the store does not copy after all
}

// Look lists both buckets, a request each for every 1,000 objects. They are the
// store's parts of them.
func Look(ctx context.Context, from, to *bucket.Bucket) (*State, error) {
	there := map[string]int64{}
	s := &State{from: from, to: to, there: there, Within: from.Beside(to)}
	err := to.List(ctx, "", func(page []bucket.Info) error {
		s.lists[1]++
		for _, o := range page {
			there[o.Key] = o.Size
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = from.List(ctx, "", func(page []bucket.Info) error {
		s.lists[0]++
		for _, o := range page {
			s.add(o, there)
		}
		return nil
	})
	s.lists[0], s.lists[1] = max(1, s.lists[0]), max(1, s.lists[1]) // of what is empty, too
	s.Lists = s.lists[0] + s.lists[1]
	slices.SortStableFunc(s.left, func(a, b bucket.Info) int { return rank(a.Key) - rank(b.Key) })
	return s, err
}

func (s *State) add(o bucket.Info, there map[string]int64) {
	if rank(o.Key) < 0 {
		return
	}
	if size, ok := there[o.Key]; ok && size == o.Size {
		s.Done.add(o.Size)
		return
	}
	s.Left.add(o.Size)
	if _, archived := prices.RetrievalOf(o.Class, "Bulk"); archived {
		s.Archived.add(o.Size)
	}
	s.left = append(s.left, o)
}

// rank is the order of copying; below zero is what stays behind: the owner, which
// each bucket has of its own, and what is there for the length of an audit.
func rank(key string) int {
	for i, dir := range []string{layout.PackDir, layout.IndexDir, layout.BundleDir, layout.RootDir} {
		if strings.HasPrefix(key, dir) {
			return i
		}
	}
	if key == layout.FormatKey || key == layout.FormatCopyKey {
		return 4
	}
	return -1
}

// A Plan is what it takes to copy what is left.
type Plan struct {
	*State
	Requests map[string]int64 `json:"requests"` // to be made, by class, in both
	Hours    float64          `json:"hours"`
	Rate     int64            `json:"bytes-per-second"` // that Hours is for

	From      prices.Cost `json:"from"`              // once: of reading
	To        prices.Cost `json:"to"`                // once: of writing
	FromKnown bool        `json:"from-prices-known"` // else From and MonthFrom say nothing
	ToKnown   bool        `json:"to-prices-known"`
	FromUnit  string      `json:"from-currency"`
	ToUnit    string      `json:"to-currency"`
	MonthFrom float64     `json:"month-from"` // what the storage costs a month, there and here; 0: not known
	MonthTo   float64     `json:"month-to"`
}

// Plan says what it takes at so many bytes per second. A provider without a name is
// one whose prices are not known.
func (s *State) Plan(rate int64, from, to prices.Provider) Plan {
	read, write := prices.Use{Requests: map[string]int64{"list": s.lists[0]}}, prices.Use{Requests: map[string]int64{"list": s.lists[1], "put": s.Left.Objects}}
	if !s.Within {
		read.Requests["get"], read.In, write.Out = s.Left.Objects, s.Left.Bytes, s.Left.Bytes
	}
	all := Sum{s.Done.Objects + s.Left.Objects, s.Done.Bytes + s.Left.Bytes}
	return Plan{
		State: s, Rate: rate, Hours: float64(read.In) / float64(max(rate, 1)) / 3600,
		Requests: map[string]int64{"get": read.Requests["get"], "put": s.Left.Objects, "list": s.Lists},
		From:     from.Once(read), To: to.Once(write),
		FromKnown: from.ID != "", ToKnown: to.ID != "", FromUnit: from.Unit(), ToUnit: to.Unit(),
		MonthFrom: from.Monthly(all.Bytes, all.Objects, prices.Use{}).Storage, MonthTo: to.Monthly(all.Bytes, all.Objects, prices.Use{}).Storage,
	}
}

// Manifest writes what is left as S3 Batch Operations read it: a line of bucket and
// key for each object, the key as in a URL. They copy within one provider only, and to
// the same key, or to one with something in front of it.
func (s *State) Manifest(w io.Writer) error {
	host, _, name, prefix, _ := s.from.Place()
	there, _, _, other, _ := s.to.Place()
	switch {
	case !s.Within && !(strings.HasSuffix(host, amazon) && strings.HasSuffix(there, amazon)):
		return &identity.Problem{
			Text: fmt.Sprintf("S3 Batch Operations copy within one provider and account, and %s is elsewhere than %s", s.to, s.from),
			Cure: "copy it through here: the same command without --manifest",
		}
	case !strings.HasSuffix(other, prefix):
		return &identity.Problem{
			Text: fmt.Sprintf("S3 Batch Operations keep the keys, which begin with %q here and are to begin with %q there", prefix, other),
			Cure: fmt.Sprintf("give a --prefix that ends in %q, or copy it through here: the same command without --manifest", prefix),
		}
	}
	out := csv.NewWriter(w)
	for _, o := range s.left {
		if err := out.Write([]string{name, (&url.URL{Path: prefix + o.Key}).EscapedPath()}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

const amazon = ".amazonaws.com"

// How much is in memory at the same time, and of the longest object.
const (
	room      = 256 << 20
	maxObject = 1 << 30
)

// Copy copies what is left. Within one store that copies itself, nothing passes through
// here, and what is damaged there stays so: [Check] and verifications find
// it. Else each object is checked by what it says of itself before it is written, and
// its sum by the store that takes it. done, if given, is told of
// progress, from several goroutines. What has gone from the old bucket meanwhile is
// left out.
func (s *State) Copy(ctx context.Context, open *layout.Opener, done func(Sum)) (Sum, error) {
	var objects, total atomic.Int64
	memory := semaphore.NewWeighted(room)
	copyOne := func(ctx context.Context, o bucket.Info) error {
		if s.Within && !s.cannot.Load() {
			if err := s.within(ctx, o); !errors.Is(err, bucket.ErrUnsupported) && !errors.Is(err, bucket.ErrDenied) {
				return s.copied(o, err, &objects, &total, done)
			}
			s.cannot.Store(true)
		}
		weight := min(o.Size, room)
		if err := memory.Acquire(ctx, weight); err != nil {
			return context.Cause(ctx)
		}
		defer memory.Release(weight)
		return s.copied(o, s.copy(ctx, open, o), &objects, &total, done)
	}
	for rest := s.left; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(o bucket.Info) bool { return rank(o.Key) != rank(rest[0].Key) })
		if n < 0 {
			n = len(rest)
		}
		if s.Place != nil && rank(rest[0].Key) > 0 {
			if err := s.Place.Still(ctx); err != nil {
				return Sum{objects.Load(), total.Load()}, err
			}
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(min(s.from.Account().Conns(), s.to.Account().Conns(), 16))
		for _, o := range rest[:n] {
			if gctx.Err() != nil {
				break
			}
			g.Go(func() error { return copyOne(gctx, o) })
		}
		err := g.Wait()
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return Sum{objects.Load(), total.Load()}, err
		}
		rest = rest[n:]
	}
	return Sum{objects.Load(), total.Load()}, nil
}

// copied counts an object, unless it has gone from the old bucket.
func (s *State) copied(o bucket.Info, err error, objects, total *atomic.Int64, done func(Sum)) error {
	if errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		return nil
	}
	if err == nil {
		sum := Sum{objects.Add(1), total.Add(o.Size)}
		if done != nil {
			done(sum)
		}
	}
	return err
}

// within has the store copy an object. It has no word for "only if there is none", so
// what the listing has seen of another length stays.
func (s *State) within(ctx context.Context, o bucket.Info) error {
	if size, is := s.there[o.Key]; is {
		return s.differs(o, size)
	}
	if o.Size > bucket.MaxCopy {
		return bucket.ErrUnsupported
	}
	opt := bucket.PutOption{Keep: true}
	if rank(o.Key) == 0 {
		opt.Class = s.to.StorageClass()
	}
	return s.to.Copy(ctx, s.from, o, opt)
}

func (s *State) differs(o bucket.Info, size int64) error {
	return fmt.Errorf("%s has %d bytes in %s and %d in %s", o.Key, size, s.to, o.Size, s.from)
}

func (s *State) copy(ctx context.Context, open *layout.Opener, o bucket.Info) error {
	body, _, err := s.from.Get(ctx, o.Key, maxObject)
	if err != nil {
		return err
	}
	if err := sound(open, o, body); err != nil {
		return fmt.Errorf("%s in %s: %w", o.Key, s.from, err)
	}
	opt := bucket.PutOption{New: s.to.Can().CreateOnce, Keep: true}
	if rank(o.Key) == 0 {
		opt.Class = s.to.StorageClass()
	}
	_, err = s.to.PutBytes(ctx, o.Key, body, opt)
	if errors.Is(err, bucket.ErrExists) { // of another length, or by somebody who was faster
		var is bucket.Info
		if is, err = s.to.Head(ctx, o.Key); err == nil && is.Size != o.Size {
			err = s.differs(o, is.Size)
		}
	}
	return err
}

// ErrDamaged says that an object is not what was once stored: another copy of the
// data has to heal it first.
var ErrDamaged = errors.New("it is damaged")

// sound checks the length of an object, and each chunk of a pack. The others are
// named by a root with their sums: see [Check].
func sound(open *layout.Opener, o bucket.Info, body []byte) error {
	if int64(len(body)) != o.Size {
		return fmt.Errorf("%w: it has %d bytes, listed were %d", ErrDamaged, len(body), o.Size)
	}
	if id, is := layout.ParsePackKey(o.Key); is && open != nil {
		p, err := open.ReadPack(bytes.NewReader(body), id, int64(len(body)))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		for _, row := range p.Rows {
			end := row.Off + layout.FrameSize(p.Sealed, row.Stored)
			if end > int64(len(body)) {
				return fmt.Errorf("%w: a chunk ends behind it", ErrDamaged)
			}
			d, _, err := open.Frame(id, p.Sealed, row.Off, bytes.Clone(body[row.Off:end]))
			if err == nil && d != row.Digest {
				err = errors.New("another chunk lies there")
			}
			if err != nil {
				return fmt.Errorf("%w: chunk %s: %w", ErrDamaged, row.Digest.Short(), err)
			}
		}
		return nil
	}
	return nil
}

// Check reads what a root names from the other bucket, and finds every pack in its
// listing. It is what makes a copy count.
func Check(ctx context.Context, to *bucket.Bucket, named []layout.Object, packs map[string]int64) error {
	for _, o := range named {
		body, _, err := to.Get(ctx, o.Key, maxObject)
		if err != nil {
			return err
		}
		if layout.SumOf(body) != o.Sum {
			return fmt.Errorf("%s in %s: %w: it is not what the root names", o.Key, to, ErrDamaged)
		}
	}
	missing := maps.Clone(packs)
	err := to.List(ctx, layout.PackDir, func(page []bucket.Info) error {
		for _, o := range page {
			if missing[o.Key] == o.Size {
				delete(missing, o.Key)
			}
		}
		return nil
	})
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%d of %d packs are not in %s", len(missing), len(packs), to)
	}
	return err
}
