package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// indexSuite fills real stores with very small chunks, so that it is all about
// the index.
func indexSuite(ctx context.Context, b *bench) error {
	if err := b.indexOf(ctx, b.scaled(1_000_000), "1 M", true); err != nil {
		return err
	}
	return b.indexOf(ctx, b.scaled(10_000_000), "10 M", false)
}

func (b *bench) indexOf(ctx context.Context, n int, label string, rebuild bool) error {
	dir, err := b.sub("index")
	if err != nil {
		return err
	}
	s, err := openNew(ctx, dir)
	if err != nil {
		return err
	}
	began := time.Now()
	most, err := fillSmall(ctx, s, n)
	if err != nil {
		return err
	}
	put := time.Since(began)
	b.atMost("heap of the index per chunk at "+label+", while filling, at its fullest", float64(most)/float64(n), "B", 16)
	began = time.Now()
	if err := s.Close(); err != nil {
		return err
	}
	b.row("fill and stop at "+label, fmt.Sprintf("%.2f us/chunk", put.Seconds()*1e6/float64(n)),
		fmt.Sprintf("stop %d ms", time.Since(began).Milliseconds()), "", "", true)
	if rebuild {
		if err := b.rebuild(ctx, dir, label); err != nil {
			return err
		}
	}
	var times []float64
	for range 5 {
		began = time.Now()
		if s, err = pack.Open(ctx, pack.Config{Dir: dir}); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds()*1e3)
		if !s.Health().Clean || s.Len() != n {
			return fmt.Errorf("store has %d chunks after a clean stop, want %d: %+v", s.Len(), n, s.Health())
		}
		if len(times) < 5 {
			if err := s.Close(); err != nil {
				return err
			}
		}
	}
	defer s.Close()
	b.atMost("open after a clean stop at "+label, median(times), "ms", 50)
	b.atMost("heap of the index per chunk at "+label+", opened", float64(s.IndexHeap())/float64(n), "B", 16)
	hits, misses := samples(n)
	for _, c := range []struct {
		what  string
		ds    []chunks.Digest
		there bool
		limit float64
	}{{"lookup, hit, at " + label, hits, true, 0.5}, {"lookup, miss, at " + label, misses, false, 0.1}} {
		us, err := lookups(s, c.ds, c.there)
		if err != nil {
			return err
		}
		if b.atMost(c.what, us, "us", c.limit); us > c.limit {
			const perChunk = 64.0 / 26 // bytes of a run that a miss looks into
			b.limit(fmt.Sprintf("one dependent read of %d MiB of memory", int(float64(n)*perChunk)>>20), readTime(int(float64(n)*perChunk)), 0, "us")
		}
	}
	return nil
}

func smallDigest(i int) chunks.Digest { return chunks.Sum(fmt.Append(nil, "small", i)) }

// fillSmall puts n chunks and returns the most memory that the index took.
func fillSmall(ctx context.Context, s *pack.Store, n int) (most int64, err error) {
	set := makeBlobs(16, 1024)
	for i := range n {
		if _, err := s.Put(ctx, smallDigest(i), set.blobs[i%len(set.blobs)]); err != nil {
			return 0, err
		}
		if i%100_000 == 99_999 {
			if err := s.Commit(ctx); err != nil {
				return 0, err
			}
		}
		if i%1000 == 0 {
			most = max(most, s.IndexHeap())
		}
	}
	return most, s.Commit(ctx)
}

// rebuild measures a start without an index.
func (b *bench) rebuild(ctx context.Context, dir, label string) error {
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		return err
	}
	began := time.Now()
	s, err := pack.Open(ctx, pack.Config{Dir: dir})
	if err != nil {
		return err
	}
	b.atMost("start without an index, rebuilt from footers, at "+label, time.Since(began).Seconds(), "s", 3)
	return s.Close()
}

// samples returns up to a million digests that are there, in random order, and
// as many that are not.
func samples(n int) (hits, misses []chunks.Digest) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range min(n, 1_000_000) {
		hits = append(hits, smallDigest(rng.IntN(n)))
		misses = append(misses, smallDigest(n+i))
	}
	return hits, misses
}

// lookups returns the time of one lookup in microseconds, the best of three
// passes: the first one warms up.
func lookups(s *pack.Store, ds []chunks.Digest, there bool) (us float64, err error) {
	for pass := range 3 {
		began := time.Now()
		for i := range ds {
			if _, ok := s.Lookup(ds[i]); ok != there {
				return 0, fmt.Errorf("lookup of %s says %v", ds[i].Short(), ok)
			}
		}
		if t := time.Since(began).Seconds() * 1e6 / float64(len(ds)); pass == 0 || t < us {
			us = t
		}
	}
	return us, nil
}
