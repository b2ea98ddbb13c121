package replication

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// opened are the chunks of a run that are decrypted as they come: they are kept
// here under another name, that of their content.
type opened struct {
	mu    sync.Mutex
	keys  map[chunks.Digest]*chunks.Key   // of chunks that are to be decrypted, by their names there
	names map[chunks.Digest]chunks.Digest // of those that were, by their names there
	plain map[chunks.Digest]bool          // chunks that are wanted as they are as well
}

// key returns what a chunk is to be decrypted with.
func (o *opened) key(d chunks.Digest) *chunks.Key {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keys[d]
}

func (o *opened) name(d chunks.Digest) (chunks.Digest, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name, is := o.names[d]
	return name, is
}

func (o *opened) note(there, here chunks.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.names == nil {
		o.names = map[chunks.Digest]chunks.Digest{}
	}
	o.names[there] = here
}

func (o *opened) want(d chunks.Digest, key *chunks.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys == nil {
		o.keys = map[chunks.Digest]*chunks.Key{}
	}
	o.keys[d] = key
}

// asItIs notes that a chunk is wanted as it is.
func (o *opened) asItIs(ds []chunks.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.plain == nil {
		o.plain = map[chunks.Digest]bool{}
	}
	for _, d := range ds {
		o.plain[d] = true
	}
}

// both tells whether a chunk is wanted as it is as well.
func (o *opened) both(d chunks.Digest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.plain[d]
}

// known tells whether a chunk that is wanted has come, in whatever form.
func (r *run) known(d chunks.Digest) bool {
	if r.opened.key(d) == nil {
		return r.lease.Known(d)
	}
	name, is := r.opened.name(d)
	return is && r.lease.Known(name) && (!r.opened.both(d) || r.lease.Known(d))
}

// keyOf returns the key that a snapshot is decrypted with, nil if it stays as it is.
// One that is here as it was encrypted stays so.
func (r *run) keyOf(f *fetch) (*chunks.Key, error) {
	key := r.cfg.Keys.For(f.manifest)
	if key == nil {
		return nil, nil
	}
	local, err := r.cfg.Local.Manifest(f.group.To, f.snapshot())
	if err == nil && crypt.Of(local) != crypt.Open {
		return nil, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && f.Why != plan.Corrupt {
		return nil, err
	}
	return key, f.manifest.Check(key)
}

// wantOpen wants the chunks of a snapshot that is decrypted. Of one that is here
// already, and whole, it is learned what its chunks are called here, so that those
// of the next are not fetched again.
func (r *run) wantOpen(ctx context.Context, f *fetch) error {
	f.drop(vouch.Is) // signed sums are about what is encrypted
	for name, x := range f.indexes {
		if f.Why != plan.Corrupt {
			if here, err := r.cfg.Local.ReadIndex(f.group.To, f.snapshot(), name); err == nil && crypt.Pair(x, here, r.opened.note) {
				continue
			}
		}
		if err := r.wantIndex(ctx, f, x); err != nil {
			return err
		}
	}
	return nil
}

// wantIndex wants those chunks of an index whose content is not here.
func (r *run) wantIndex(ctx context.Context, f *fetch, x chunks.Index) error {
	var block []chunks.Digest
	sizes := map[chunks.Digest]int{}
	for i, d := range x.All() {
		if _, twice := sizes[d]; twice {
			continue
		}
		start, end := x.Range(i)
		sizes[d] = int(end - start)
		if block = append(block, d); len(block) == maxBlock {
			if err := r.wantClosed(ctx, f, block, sizes); err != nil {
				return err
			}
			block = block[:0]
		}
	}
	return r.wantClosed(ctx, f, block, sizes)
}

func (r *run) wantClosed(ctx context.Context, f *fetch, block []chunks.Digest, sizes map[chunks.Digest]int) error {
	var want, here []chunks.Digest
	there := map[chunks.Digest]chunks.Digest{} // by the name here
	for _, d := range block {
		if name, is := r.opened.name(d); is {
			there[name] = d
			here = append(here, name)
		} else {
			want = append(want, d)
		}
	}
	missing, err := r.lease.Missing(ctx, here)
	if err != nil {
		return err
	}
	for _, name := range missing {
		want = append(want, there[name])
	}
	for _, d := range want {
		r.opened.want(d, f.key)
	}
	return r.wantMissing(ctx, f, want, sizes, nil)
}

// putOpen keeps what a chunk has, and the chunk itself only if another snapshot
// wants it so. The swarm has checked that the key opens it.
func (r *run) putOpen(ctx context.Context, d chunks.Digest, b chunks.Blob, key *chunks.Key) error {
	plain, err := b.Decode(nil, key)
	if err != nil {
		return err
	}
	blob, err := chunks.Encode(nil, plain, chunks.EncodeOptions{Compress: true})
	if err != nil {
		return err
	}
	name := chunks.Sum(plain)
	if _, err := r.lease.Put(ctx, name, blob); err != nil {
		return err
	}
	r.opened.note(d, name)
	if r.opened.both(d) {
		_, err = r.lease.Put(ctx, d, b)
	}
	return err
}

// open makes of the files of a snapshot those of the one that is kept here.
func (r *run) open(f *fetch) error {
	var files []wire.File
	var listed []manifest.File
	for _, file := range f.files {
		switch x, is := f.indexes[file.Name]; {
		case is:
			here, err := crypt.Index(x, r.opened.name)
			if err != nil {
				return fmt.Errorf("decrypt %s: %w", file.Name, err)
			}
			f.indexes[file.Name], file.Data = here, here.Bytes()
			listed = append(listed, crypt.Listed(file.Name, here, manifest.None))
		default:
			b, err := crypt.Blob(file.Data, f.key, nil)
			if err != nil {
				return fmt.Errorf("decrypt %s: %w", file.Name, err)
			}
			if file.Data = b; file.Name != manifest.LogName {
				listed = append(listed, crypt.File(file.Name, b, manifest.None))
			}
		}
		files = append(files, file)
	}
	m, err := crypt.Manifest(f.manifest, listed, nil)
	if err != nil {
		return err
	}
	f.files, f.manifest = files, m
	return nil
}

// sameOpen tells whether what was decrypted is what is here: the files, and the
// pieces that the content is cut into.
func (r *run) sameOpen(f *fetch, local *manifest.Manifest) (bool, error) {
	if len(local.Files) != len(f.manifest.Files) {
		return false, nil
	}
	for _, want := range f.manifest.Files {
		have, is := local.File(want.Name)
		if !is || roots.IsIndex(want.Name) && (have.Csum != want.Csum || have.Size != want.Size) {
			return false, nil
		}
	}
	return true, nil
}
