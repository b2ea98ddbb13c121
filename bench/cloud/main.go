// Command cloud measures the cloud tier against one object for each chunk: the
// same chunks, the same S3 server, the same number of requests at a time, taken
// in the same run. A proxy between counts the requests and makes each of them
// take longer, as a line to a provider does.
//
//	go run ./bench/cloud [-chunks 400] [-mean 1258291] [-rtt 30ms]
//
// It needs the module proxy the first time, to build the server. It fails if a
// figure misses its mark.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	packs "github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// inFlight is how many transfers either side has at a time.
const inFlight = 8

// bench is one run.
type bench struct {
	dir     string
	objects string // files of the server
	proxy   *cloudtest.Proxy
	b       *bucket.Bucket
	chunks  []chunktest.Chunk
	plain   *pack.Store // that has them as well, for the other side
	bytes   int64
	rtt     time.Duration
	out     *tabwriter.Writer
	missed  int
}

func main() {
	n := flag.Int("chunks", 400, "how many chunks")
	mean := flag.Int("mean", 1258291, "their mean length")
	rtt := flag.Duration("rtt", 30*time.Millisecond, "what every request takes longer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	missed, err := measure(ctx, *n, *mean, *rtt)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d figures missed their mark\n", missed)
		os.Exit(1)
	}
}

func measure(ctx context.Context, n, mean int, rtt time.Duration) (missed int, err error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary, err := cloudtest.Build()
	if err != nil {
		return 0, err
	}
	srv, end, err := cloudtest.Run(binary, filepath.Join(dir, "server"))
	if err != nil {
		return 0, err
	}
	defer end()
	proxy, endProxy, err := cloudtest.NewProxy(srv.URL)
	if err != nil {
		return 0, err
	}
	defer endProxy()
	acc, err := bucket.NewAccount(bucket.AccountConfig{Key: cloudtest.Key, Secret: cloudtest.Secret, Conns: inFlight})
	if err != nil {
		return 0, err
	}
	defer acc.Close()
	b := &bench{dir: dir, objects: srv.Dir, proxy: proxy, rtt: rtt, out: tabwriter.NewWriter(os.Stdout, 2, 8, 2, ' ', 0)}
	b.b, err = bucket.New(bucket.Config{
		Endpoint: proxy.URL, Region: cloudtest.Region, Bucket: cloudtest.Name, PathStyle: true, Can: cloudtest.Full, Account: acc,
	})
	if err != nil {
		return 0, err
	}
	for i := range n {
		c := chunktest.Blob(uint64(i), mean/2+(i*7919)%mean)
		b.chunks = append(b.chunks, c)
		b.bytes += int64(len(c.Blob))
	}
	fmt.Fprintf(b.out, "%d chunks, %d MiB, %s a request, %d at a time\n", n, b.bytes>>20, rtt, inFlight)
	fmt.Fprintln(b.out, "what\tours\tone object a chunk\tratio\tmark")
	err = b.run(ctx)
	return b.missed, errors.Join(err, b.out.Flush())
}

// A side is one way of keeping the chunks in the bucket.
type side struct {
	requests int
	took     time.Duration
}

// timed does one piece of work and counts what it asked for.
func (b *bench) timed(work func() error) (side, error) {
	b.proxy.Reset()
	began := time.Now()
	err := work()
	return side{b.proxy.Total(), time.Since(began)}, err
}

// rounds is how often each side has its turn; the median counts, so that a slow
// minute slows both.
const rounds = 3

func (b *bench) run(ctx context.Context) (err error) {
	if b.plain, err = b.local(ctx, filepath.Join(b.dir, "plain")); err != nil {
		return err
	}
	defer b.plain.Close()
	if err := b.fill(ctx, b.plain); err != nil {
		return err
	}
	st, err := b.upload(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := b.listings(ctx); err != nil {
		return err
	}
	return b.restore(ctx, st)
}

// upload sends everything from a new store and then every chunk alone, or the
// other way round, and returns the last of the stores.
func (b *bench) upload(ctx context.Context) (st *cloud.Store, err error) {
	var ours, each [rounds]side
	puts := 0
	for i := range rounds {
		if st != nil {
			err = st.Close()
		}
		b.proxy.Delay(0)
		if err == nil {
			st, err = b.filled(ctx, fmt.Sprint("store", i))
		}
		if err != nil {
			return nil, err
		}
		b.proxy.Delay(b.rtt)
		turns := []func() error{
			func() (err error) {
				ours[i], err = b.timed(func() error { _, err := st.Offload(ctx, cloud.OffloadOptions{}); return err })
				puts = b.proxy.Counts()["put"]
				return err
			},
			func() (err error) {
				each[i], err = b.timed(func() error { return b.putEach(ctx, i) })
				return err
			},
		}
		if err := errors.Join(turns[i%2](), turns[1-i%2]()); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	b.puts(st, puts)
	b.count("requests of a backup", median(ours[:]), median(each[:]))
	b.speed("time of an upload", median(ours[:]), median(each[:]), 1)
	return st, nil
}

// filled returns a new store that has all chunks on its disk.
func (b *bench) filled(ctx context.Context, name string) (*cloud.Store, error) {
	st, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := b.fill(ctx, st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

func (b *bench) fill(ctx context.Context, st chunks.Writer) error {
	for _, c := range b.chunks {
		if _, err := st.Put(ctx, c.Digest, c.Blob); err != nil {
			return err
		}
	}
	return st.Commit(ctx)
}

// local makes a store of packs on the disk.
func (b *bench) local(ctx context.Context, name string) (*pack.Store, error) {
	if _, err := packs.Init(disk.OS{}, name, 0); err != nil {
		return nil, err
	}
	return pack.Open(ctx, pack.Config{Dir: name})
}

// restore reads everything, in three ways that take turns, so that a slow minute
// slows all of them.
func (b *bench) restore(ctx context.Context, st *cloud.Store) error {
	x, err := b.order()
	if err != nil {
		return err
	}
	var down, asked, downEach [rounds]side
	for i := range down {
		if down[i], err = b.timed(func() error { return b.getMany(ctx, st) }); err != nil {
			return err
		}
		if downEach[i], err = b.timed(func() error { return b.getEach(ctx) }); err != nil {
			return err
		}
		if asked[i], err = b.timed(func() error { return b.planned(ctx, st, x) }); err != nil {
			return err
		}
	}
	ours, session, each := median(down[:]), median(asked[:]), median(downEach[:])
	b.count("requests of a restore", ours, each)
	b.count("requests of a restore by a client", session, each)
	b.speed("time of a restore", ours, each, 2)
	b.speed("time of a restore by a client", session, each, 2)
	return nil
}

func (b *bench) open(ctx context.Context, as string) (*cloud.Store, error) {
	name := filepath.Join(b.dir, as, "local")
	part := b.b.Sub(as)
	local, err := b.local(ctx, name)
	if err != nil {
		return nil, err
	}
	key, err := seal.NewIdentity()
	if err != nil {
		return nil, err
	}
	id, err := identity.Create(ctx, part, identity.Options{Encrypt: true, Recipients: []age.Recipient{key.Recipient()}, Proof: key})
	if err != nil {
		return nil, err
	}
	st, err := cloud.Open(ctx, cloud.Config{
		Local: local, Bucket: part, Dir: filepath.Join(b.dir, as, "cloud"), Node: "bench", Keys: []age.Identity{key}, Parallel: inFlight,
	}, id)
	if err != nil {
		return nil, err
	}
	return st, st.Acquire(ctx, cloud.AcquireOptions{})
}

// getMany is a restore of everything.
func (b *bench) getMany(ctx context.Context, st *cloud.Store) error {
	var ds []chunks.Digest
	for _, c := range b.chunks {
		ds = append(ds, c.Digest)
	}
	return st.GetMany(ctx, ds, func(_ chunks.Digest, _ chunks.Blob, err error) error { return err })
}
