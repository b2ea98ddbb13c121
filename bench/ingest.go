package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// ingestSuite stores blobs that do not compress, as a server does that trusts
// their names: one stream, one commit at the end.
func ingestSuite(ctx context.Context, b *bench) error {
	dir, err := b.sub("files")
	if err != nil {
		return err
	}
	f, err := newFiles(dir, 65536)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what    string
		size, n int
		want    float64
		synced  int // chunks for the peer that syncs each file: it is slow
	}{
		{"1 MiB chunks", 1 << 20, 2048, 2, 256},
		{"8 KiB chunks", 8 << 10, 100_000, 3, 2000},
	} {
		set := makeBlobs(c.size, min(b.scaled(c.n), 8192))
		n := b.scaled(c.n)
		packs := func() (float64, error) { return b.ingestPacks(ctx, set, n) }
		for _, peer := range []struct {
			what string
			sync bool
			n    int
			want float64
		}{{"file per chunk, one sync", false, n, c.want}, {"file per chunk, fsync each", true, b.scaled(c.synced), 10}} {
			f.sync = peer.sync
			ours, theirs, err := paired(b.rounds(3), packs, func() (float64, error) { return b.ingestFiles(set, peer.n, f) })
			if err != nil {
				return err
			}
			b.atLeast(c.what, ours, theirs, "MB/s", peer.what, peer.want)
			if !peer.sync || ours >= peer.want*theirs {
				continue
			}
			limit, err := b.writeSpeed(int64(n) * int64(c.size))
			if err != nil {
				return err
			}
			b.limit(c.what+": the disk's limit, sequential O_DIRECT writes", limit, theirs, "MB/s")
		}
	}
	return nil
}

// A blobSet gives any number of blobs of one size out of a few: the names
// differ, which is all that a store looks at.
type blobSet struct {
	blobs []chunks.Blob
	size  int
}

func makeBlobs(size, n int) blobSet {
	s := blobSet{size: size}
	for i := range min(n, max(1, (256<<20)/size)) {
		s.blobs = append(s.blobs, chunktest.Blob(uint64(i), size).Blob)
	}
	return s
}

func (s blobSet) at(i int) (chunks.Digest, chunks.Blob) {
	return chunks.Sum(fmt.Append(nil, s.size, i)), s.blobs[i%len(s.blobs)]
}

func (b *bench) ingestPacks(ctx context.Context, set blobSet, n int) (mbps float64, err error) {
	dir, err := b.sub("packs")
	if err != nil {
		return 0, err
	}
	s, err := openNew(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	s.Abilities() // the probe belongs to the start of the process
	digests := names(set, n)
	settle()
	began := time.Now()
	for i, d := range digests {
		if _, err := s.Put(ctx, d, set.blobs[i%len(set.blobs)]); err != nil {
			return 0, err
		}
	}
	if err := s.Commit(ctx); err != nil {
		return 0, err
	}
	return float64(n) * float64(set.size) / time.Since(began).Seconds() / 1e6, nil
}

func names(set blobSet, n int) []chunks.Digest {
	ds := make([]chunks.Digest, n)
	for i := range ds {
		ds[i], _ = set.at(i)
	}
	return ds
}

// ingestFiles stores into the same 65,536 directories in every round, with
// other names: making and removing them slows a file system for minutes.
func (b *bench) ingestFiles(set blobSet, n int, f *files) (mbps float64, err error) {
	f.round++
	digests := make([]chunks.Digest, n)
	for i := range digests {
		digests[i] = chunks.Sum(fmt.Append(nil, f.round, set.size, i))
	}
	settle()
	began := time.Now()
	for i, d := range digests {
		if err := f.put(d, set.blobs[i%len(set.blobs)]); err != nil {
			return 0, err
		}
	}
	if !f.sync {
		if err := f.commit(); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	for _, d := range digests {
		if err := os.Remove(f.name(d)); err != nil {
			return 0, err
		}
	}
	return float64(n) * float64(set.size) / took.Seconds() / 1e6, nil
}

// openNew makes a store and opens it.
func openNew(ctx context.Context, dir string) (*pack.Store, error) {
	if _, err := identity.Init(disk.OS{}, dir, 0); err != nil {
		return nil, err
	}
	return pack.Open(ctx, pack.Config{Dir: dir})
}
