// Package queue keeps the packs that are on their way to a bucket, so that a
// restart goes on where a crash came.
package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// maxRows bounds the list of a pack's rows, in bytes.
const maxRows = 16 << 20

// A Queue is a directory of packs on their way.
type Queue struct {
	Bucket   *bucket.Bucket // the store's part of the bucket
	FS       disk.FS
	Dir      string // a directory of its own, which exists
	Parallel int    // packs uploaded at the same time

	// There, if given, tells whether the bucket is the right one at all. It is asked
	// before packs are taken for gone.
	There func(context.Context) error

	mu   sync.Mutex
	sent map[format.ID]bool // packs that the bucket has, as it said since the last Doubt
}

func (q *Queue) path(name string) string { return path.Join(q.Dir, name) }

// The queue of uploads is the directory of the queue. Of a pack on its way there is
//
//	<id>.pack and <id>.rows   the pack must be uploaded
//	<id>.done                 its rows; the bucket has it, but no root names it
//	<id>.pack alone           a crash came while it was written
//
// Nothing waits for the disk before the bucket has a pack: its chunks are on the
// disk elsewhere. What a power cut has left of one does not match the sum that is
// noted with the rows, goes, and is built anew under another name.
//
// A pack is always sent again under the same name, which is safe because the
// bytes are the same and the first to arrive stays.
const (
	packExt = ".pack"
	Ready   = ".rows" // to be uploaded
	Done    = ".done" // the bucket has it
)

// sumMagic and the CRC-32C of the pack follow the rows.
const (
	sumMagic = "HFQSUM01"
	sumSize  = len(sumMagic) + 4
)

// Waiting returns the packs that wait, by their state.
func (q *Queue) Waiting() (waiting map[format.ID]string, err error) {
	files, err := q.FS.ReadDir(q.Dir)
	if err != nil {
		return nil, err
	}
	waiting = map[format.ID]string{}
	for _, f := range files {
		for _, ext := range []string{Ready, Done} {
			var id format.ID
			stem, ok := strings.CutSuffix(f.Name(), ext)
			if ok && id.UnmarshalText([]byte(stem)) == nil {
				waiting[id] = ext
			}
		}
	}
	return waiting, nil
}

func (q *Queue) name(id format.ID, ext string) string { return q.path(id.String() + ext) }

// Clean removes what a crash left half written: also rows without their pack, and
// a pack that does not match its sum. Their chunks are still on the disk and are
// packed anew.
func (q *Queue) Clean() error {
	waiting, err := q.Waiting()
	if err != nil {
		return err
	}
	files, err := q.FS.ReadDir(q.Dir)
	if err != nil {
		return err
	}
	packed, wholes := map[string]bool{}, map[format.ID]bool{}
	for _, f := range files {
		packed[f.Name()] = true
	}
	for _, f := range files {
		var id format.ID
		stem, _, _ := strings.Cut(f.Name(), ".")
		if id.UnmarshalText([]byte(stem)) == nil && waiting[id] == Ready && packed[stem+packExt] && !disk.IsTemp(f.Name()) {
			whole, seen := wholes[id]
			if !seen {
				if whole, err = q.whole(id); err != nil {
					return err
				}
				wholes[id] = whole
			}
			if whole {
				continue
			}
		}
		if strings.HasSuffix(f.Name(), Done) {
			continue
		}
		if err := q.remove(q.path(f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) remove(name string) error {
	if err := q.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// whole tells whether a pack on the disk is what was written.
func (q *Queue) whole(id format.ID) (bool, error) {
	p, err := q.Rows(id, Ready)
	if err != nil {
		return false, nil
	}
	f, err := q.FS.OpenFile(q.name(id, packExt), os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size != p.Size || p.Sum == 0 { // 0: by a version that synced it
		return size == p.Size, err
	}
	var sum layout.Summer
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		n, err := f.ReadAt(buf[:min(size-off, int64(len(buf)))], off)
		sum.Write(buf[:n], off)
		if off += int64(n); err != nil && off < size {
			return false, err
		}
	}
	return sum.Sum() == p.Sum, nil
}

// Rows reads the rows of a pack that waits.
func (q *Queue) Rows(id format.ID, ext string) (layout.Pack, error) {
	b, err := disk.ReadFile(q.FS, q.name(id, ext), maxRows)
	if err != nil {
		return layout.Pack{}, err
	}
	var sum uint32
	if at := len(b) - sumSize; at >= 0 && string(b[at:at+len(sumMagic)]) == sumMagic {
		b, sum = b[:at], binary.LittleEndian.Uint32(b[at+len(sumMagic):])
	}
	packs, err := layout.DecodeIndex(b)
	if err != nil || len(packs) != 1 || packs[0].ID != id {
		return layout.Pack{}, errors.Join(fmt.Errorf("%s: it is not the rows of a pack", q.name(id, ext)), err)
	}
	packs[0].Sum = sum
	return packs[0], nil
}

// Send uploads one pack of the queue. When it returns nil the bucket has it,
// and the queue knows.
func (q *Queue) Send(ctx context.Context, id format.ID) error {
	f, err := q.FS.OpenFile(q.name(id, packExt), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	p, err := q.Rows(id, Ready)
	if err != nil {
		return err
	}
	opt := bucket.PutOption{New: q.Bucket.Can().CreateOnce, Class: q.Bucket.StorageClass(), CRC32C: p.Sum, Keep: true}
	_, err = q.Bucket.Put(ctx, layout.PackKey(id), sized{f, size}, opt)
	if errors.Is(err, bucket.ErrExists) {
		err = q.sentBefore(ctx, id, size)
	}
	if err != nil {
		return err
	}
	q.sure(id)
	return errors.Join(q.done(id), q.remove(q.name(id, packExt)))
}

func (q *Queue) sure(id format.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent == nil {
		q.sent = map[format.ID]bool{}
	}
	q.sent[id] = true
}

// Doubt has the next [Queue.Confirmed] ask the bucket for everything: something
// failed, and what the bucket has by now is not known.
func (q *Queue) Doubt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent = nil
}

// Confirmed returns the packs that the bucket has and no root names, in order of
// their IDs, and forgets those that one names. What was sent before a crash or a
// failure is looked for, with a request each, several at a time: an audit of another
// owner may have removed it, or the bucket was put back to an earlier state. What is
// gone leaves the queue; its chunks are on the disk still and are packed anew.
func (q *Queue) Confirmed(ctx context.Context, named func(format.ID) bool) (packs []layout.Pack, err error) {
	waiting, err := q.Waiting()
	if err != nil {
		return nil, err
	}
	var gone []format.ID
	missed := false
	var mu sync.Mutex // of packs, gone and missed
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(looks)
	for id, ext := range waiting {
		if ext != Done {
			continue
		}
		g.Go(func() error {
			p, err := q.Rows(id, Done)
			if err != nil {
				return err
			}
			is, there := named(id), false // is: we crashed, or missed the reply; it may be dead by now
			if !is {
				if there, err = q.there(gctx, p); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if missed = missed || !is && !there; there {
				packs = append(packs, p)
			} else {
				gone = append(gone, id)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if missed && q.There != nil {
		if err := q.There(ctx); err != nil {
			return nil, err
		}
	}
	for _, id := range gone {
		if err := q.Finish(id); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(packs, func(a, b layout.Pack) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return packs, nil
}

// looks is how many packs are looked for at a time.
const looks = 8

// there tells whether the bucket has a pack that was sent.
func (q *Queue) there(ctx context.Context, p layout.Pack) (bool, error) {
	q.mu.Lock()
	known := q.sent[p.ID]
	q.mu.Unlock()
	if known {
		return true, nil
	}
	info, err := q.Bucket.Head(ctx, layout.PackKey(p.ID))
	if errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size == p.Size {
		q.sure(p.ID)
	}
	return info.Size == p.Size, nil
}

// done notes for good that the bucket has a pack.
func (q *Queue) done(id format.ID) error {
	f, err := q.FS.OpenFile(q.name(id, Ready), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := q.FS.Rename(q.name(id, Ready), q.name(id, Done)); err != nil {
		return err
	}
	return q.FS.SyncDir(q.Dir)
}

// sentBefore accepts what an earlier process of ours sent before it crashed. A
// name is random and of 128 bits, so only the length is compared.
func (q *Queue) sentBefore(ctx context.Context, id format.ID, size int64) error {
	info, err := q.Bucket.Head(ctx, layout.PackKey(id))
	if err == nil && info.Size != size {
		err = fmt.Errorf("pack %s has %d bytes in %s and %d here", id, info.Size, q.Bucket, size)
	}
	return err
}

// sized is a file as a body.
type sized struct {
	disk.File
	n int64
}

func (b sized) Size() int64 { return b.n }

// SendAll uploads everything in the queue, several packs at a time. The first
// error ends it: with most of them no other upload would do better.
func (q *Queue) SendAll(ctx context.Context) error {
	waiting, err := q.Waiting()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(q.Parallel)
	for id, ext := range waiting {
		if ext == Ready {
			g.Go(func() error { return q.Send(ctx, id) })
		}
	}
	return g.Wait()
}

// Create begins the file of a pack, over what a crash may have left there.
func (q *Queue) Create() (disk.File, error) {
	return q.FS.OpenFile(q.path("new"+packExt), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
}

// Drop removes what Create began.
func (q *Queue) Drop() error { return q.remove(q.path("new" + packExt)) }

// Push puts the pack that Create began into the queue. The rows come last, and
// with them the pack is in the queue.
func (q *Queue) Push(p layout.Pack) error {
	if err := q.FS.Rename(q.path("new"+packExt), q.name(p.ID, packExt)); err != nil {
		return err
	}
	b := append(layout.EncodeIndex([]layout.Pack{p}), sumMagic...)
	b = binary.LittleEndian.AppendUint32(b, p.Sum)
	f, err := q.FS.OpenFile(q.path("new"+Ready), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return q.FS.Rename(q.path("new"+Ready), q.name(p.ID, Ready))
}

// Finish takes a pack out of the queue that a root names.
func (q *Queue) Finish(id format.ID) error { return q.remove(q.name(id, Done)) }
