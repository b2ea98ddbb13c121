package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// maxQueue bounds how many chunks wait to be read: some 20 MB of names, and of
// a huge image a part large enough that reading it in order pays.
const maxQueue = 1 << 17

// A request is a chunk to be read.
type request struct {
	ref  pack.Ref
	deep bool // decrypt it
}

func (v *Verifier) enqueue(d chunks.Digest, ref pack.Ref, deep bool) {
	q := v.queue[d]
	v.queue[d] = request{ref, deep || q.deep}
}

// read reads the chunks that are queued, and notes what they are.
func (v *Verifier) read(ctx context.Context) error {
	want := slices.Collect(maps.Keys(v.queue))
	v.denied = v.store.Quarantined()
	err := v.bulk.GetMany(chunks.WithReaders(ctx, v.opt.Readers), want, func(d chunks.Digest, b chunks.Blob, err error) error {
		return v.got(ctx, d, b, err)
	})
	clear(v.queue)
	return err
}

// got takes one chunk from a reader; several call it at the same time.
func (v *Verifier) got(ctx context.Context, d chunks.Digest, b chunks.Blob, err error) error {
	if err := v.pace.wait(ctx, len(b)); err != nil {
		return err
	}
	select {
	case v.cpu <- struct{}{}:
		defer func() { <-v.cpu }()
	case <-ctx.Done():
		return ctx.Err()
	}
	q := v.queue[d]
	n, bad, err := v.judge(d, b, err, q.deep)
	if err != nil {
		return err // the run ends
	}
	if bad != nil {
		return v.suspect(ctx, d, q, bad)
	}
	v.notes.set(q.ref, n)
	v.count(n, len(b), q.deep)
	return v.absolve(d, q, n)
}

// absolve ends the quarantine of a chunk that was read and is whole: somebody has
// mended it. Of an encrypted one the sum alone does not say that.
func (v *Verifier) absolve(d chunks.Digest, q request, n note) error {
	if n.verdict() != good || n&encrypted != 0 && !q.deep || !v.denied.Has(q.ref) {
		return nil
	}
	if err := v.store.Absolve(q.ref); err != nil {
		return fmt.Errorf("end the quarantine of chunk %s: %w", d.Short(), err)
	}
	v.opt.Log.Info("chunk was in quarantine, and is whole", "chunk", d.String())
	return nil
}

// count takes a chunk that was read into the report.
func (v *Verifier) count(n note, stored int, deep bool) {
	v.mu.Lock()
	v.report.Chunks++
	v.report.Bytes += int64(stored)
	v.progress.Chunks, v.progress.Bytes = v.report.Chunks, v.report.Bytes
	if n.verdict() == good && n&encrypted != 0 && !deep {
		v.report.SumsOnly++
	}
	v.mu.Unlock()
	v.tell(false)
}

// judge says what a chunk is. bad is why it is damaged or missing; err is
// anything else that kept it from being read.
func (v *Verifier) judge(d chunks.Digest, b chunks.Blob, read error, deep bool) (n note, bad, err error) {
	switch {
	case errors.Is(read, chunks.ErrMissing):
		return missing, read, nil
	case errors.Is(read, chunks.ErrCorrupt):
		return damaged, read, nil
	case read != nil:
		return 0, nil, read
	}
	kind, bad := b.Kind()
	if bad == nil && kind.IsEncrypted() {
		n, bad = v.judgeEncrypted(d, b, deep)
	} else if bad == nil {
		n, bad = judgePlain(d, b)
	}
	if bad != nil {
		return damaged, bad, nil
	}
	return n, nil, nil
}

func judgePlain(d chunks.Digest, b chunks.Blob) (note, error) {
	size, _ := b.PlainLen()
	buf := chunks.GetBuffer(size)
	defer buf.Free()
	content, err := b.Decode(buf.Bytes, nil)
	if err != nil {
		return 0, err
	}
	buf.Bytes = content
	if sum := chunks.Sum(content); sum != d {
		return 0, fmt.Errorf("%w: the content's digest is %s", chunks.ErrCorrupt, sum.Short())
	}
	return good.sized(len(content)), nil
}

// judgeEncrypted checks what can be: without a key that is the CRC.
func (v *Verifier) judgeEncrypted(d chunks.Digest, b chunks.Blob, deep bool) (note, error) {
	if !deep {
		size, _ := b.PlainLen()
		return (good | encrypted).sized(size), b.Check()
	}
	buf := chunks.GetBuffer(len(b))
	defer buf.Free()
	content, err := b.Decode(buf.Bytes, v.opt.Key)
	if err != nil {
		return 0, err
	}
	buf.Bytes = content
	if sum := v.opt.Key.Digest(content); sum != d {
		return 0, fmt.Errorf("%w: the content's digest is %s", chunks.ErrCorrupt, sum.Short())
	}
	return (good | encrypted).sized(len(content)), nil
}

// suspect takes a second look at a chunk that seems to be lost: memory and
// cables err too, and it may have been moved while it was read. If it is no
// better, the chunk is denied from now on.
func (v *Verifier) suspect(ctx context.Context, d chunks.Digest, q request, bad error) error {
	if now, held := v.store.Locate(d); held && now != q.ref {
		return nil // it has another place, and is looked at there
	}
	b, err := v.bulk.Get(ctx, d, nil)
	again, worse, err := v.judge(d, b, err, q.deep)
	if err != nil {
		return err
	}
	v.notes.set(q.ref, again)
	v.count(again, len(b), q.deep)
	switch again.verdict() {
	case good:
		v.opt.Log.Warn("chunk was read well only the second time; check memory, cables and disk", "chunk", d.String(), "err", bad)
	case missing: // its pack may come back
		v.lost(d, worse)
	case damaged:
		v.spoiled(d, worse)
		if err := v.store.Quarantine(q.ref); err != nil {
			return fmt.Errorf("deny damaged chunk %s: %w", d.Short(), err)
		}
	}
	return nil
}

// lost and spoiled note a chunk that is not whole here; the first reason counts.
func (v *Verifier) lost(d chunks.Digest, why error) {
	v.noteDamage(Damage{Digest: d, Missing: true, Reason: why.Error()})
}

func (v *Verifier) spoiled(d chunks.Digest, why error) {
	v.noteDamage(Damage{Digest: d, Reason: why.Error()})
}
