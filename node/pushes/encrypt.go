package pushes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
)

// names are what chunks of a group are called there, by their names here: what was
// encrypted once need not be read again to know that the server has it.
type names struct {
	mu sync.Mutex
	of map[chunks.Digest]chunks.Digest
}

func (n *names) get(d chunks.Digest) (chunks.Digest, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	there, is := n.of[d]
	return there, is
}

func (n *names) set(here, there chunks.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[here] = there
}

// crypt tells what is to be done with a snapshot: crypt.Encrypt stands for pushing
// it as it is. A job that is about encrypted snapshots only never uses its key.
func (p *push) crypt(m *manifest.Manifest) crypt.State {
	if p.Key == nil || settings.Is(p.Job.EncryptedOnly) {
		return crypt.Encrypt
	}
	return crypt.Of(m)
}

// left says that a snapshot is not pushed: to encrypt the rest of it would take it
// from whose key the other part has.
func (p *push) left(g *group, s naming.Snapshot) {
	p.Warnf("%s: %s is left out: a part of it is encrypted, and a part is not", g, s)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Left++
}

// encrypted pushes a snapshot that is not encrypted as one that is.
func (p *push) encrypted(ctx context.Context, g *group, r *catalog.Reader, s naming.Snapshot) error {
	b, err := p.Remote.BeginCopy(ctx, g.to, s, p.Key)
	if err != nil {
		return err
	}
	defer b.Abort()
	var files []manifest.File
	for _, f := range r.Manifest().Files {
		var listed manifest.File
		if roots.IsIndex(f.Name) {
			listed, err = p.encryptIndex(ctx, g, r, b, f.Name)
		} else {
			listed, err = p.encryptBlob(ctx, r, b, f.Name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		files = append(files, listed)
	}
	if _, err := p.encryptBlob(ctx, r, b, manifest.LogName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", manifest.LogName, err)
	}
	m, err := crypt.Manifest(r.Manifest(), files, p.Key)
	if err != nil {
		return err
	}
	if err := b.Finish(ctx, m); err != nil {
		return err
	}
	p.Printf("pushed %s, encrypted with the key %s", s, p.Key.Fingerprint().Short())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Encrypted++
	return nil
}

func (p *push) encryptBlob(ctx context.Context, r *catalog.Reader, b *client.Backup, name string) (f manifest.File, err error) {
	data, err := r.Blob(name)
	if err != nil {
		return f, err
	}
	if data, err = crypt.Blob(data, nil, p.Key); err != nil {
		return f, err
	}
	return crypt.File(name, data, manifest.Encrypt), b.PutBlob(ctx, name, data)
}

// encryptIndex pushes an index, with those of its chunks that the server may not
// have, under their other names.
func (p *push) encryptIndex(ctx context.Context, g *group, r *catalog.Reader, b *client.Backup, name string) (f manifest.File, err error) {
	idx, err := r.Index(name)
	if err != nil {
		return f, err
	}
	sink, err := p.open(ctx, b, name, idx.Size())
	if err != nil {
		return f, err
	}
	p.learn(g, b, name)
	for from := 0; from < idx.Len(); from += batch {
		to := min(from+batch, idx.Len())
		if err := p.encrypt(ctx, g, r, sink, idx, from, to); err != nil {
			return f, err
		}
		for i := from; i < to; i++ {
			start, end := idx.Range(i)
			there, _ := g.names.get(idx.Digest(i))
			if err := sink.Append(ctx, chunks.Stored{Offset: start, Size: int(end - start), Digest: there}); err != nil {
				return f, err
			}
		}
	}
	there, err := crypt.Index(idx, g.names.get)
	if err != nil {
		return f, err
	}
	return crypt.Listed(name, there, manifest.Encrypt), sink.Close(ctx, there)
}

// learn pairs the index that the server has of the last snapshot with the one here.
// It is signed with the key: the server could not have made it up.
func (p *push) learn(g *group, b *client.Backup, name string) {
	there := b.Last(name)
	if there == nil {
		return
	}
	here, err := p.Local.ReadIndex(g.from, b.Previous().Snapshot(), name)
	if err != nil {
		return // it was removed here, and all is read
	}
	m, err := p.Local.Manifest(g.from, b.Previous().Snapshot())
	if err != nil || crypt.Of(m) != crypt.Open {
		return
	}
	crypt.Pair(here, there, g.names.set)
}

// encrypt reads those of some chunks whose other name is not known, or that the
// server may not have, and hands them over.
func (p *push) encrypt(ctx context.Context, g *group, r *catalog.Reader, sink archive.Sink, idx chunks.Index, from, to int) error {
	var want []chunks.Digest
	seen := map[chunks.Digest]bool{}
	for i := from; i < to; i++ {
		d := idx.Digest(i)
		if seen[d] {
			continue
		}
		seen[d] = true
		there, known := g.names.get(d)
		if known {
			missing, err := sink.Missing(ctx, []chunks.Digest{there})
			if err != nil {
				return err
			}
			known = len(missing) == 0
		}
		if !known {
			want = append(want, d)
		}
	}
	return r.Chunks().GetMany(ctx, want, func(d chunks.Digest, blob chunks.Blob, err error) error {
		if err != nil {
			return err
		}
		return p.encryptChunk(ctx, g, sink, d, blob)
	})
}

func (p *push) encryptChunk(ctx context.Context, g *group, sink archive.Sink, d chunks.Digest, blob chunks.Blob) error {
	plain, err := blob.Decode(nil, nil)
	if err != nil {
		return err
	}
	if chunks.Sum(plain) != d {
		return &chunks.Error{Op: "read", Digest: d, Place: "the datastore", Err: chunks.ErrCorrupt}
	}
	there := p.Key.Digest(plain)
	g.names.set(d, there)
	missing, err := sink.Missing(ctx, []chunks.Digest{there})
	if err != nil || len(missing) == 0 {
		return err
	}
	sealed, err := chunks.Encode(nil, plain, chunks.EncodeOptions{Compress: true, Key: p.Key})
	if err != nil {
		return err
	}
	_, err = sink.Put(ctx, there, sealed)
	return err
}
