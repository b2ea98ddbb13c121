package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A part is an index of a pending snapshot that was read and is what the
// manifest says.
type part struct {
	name    string
	index   chunks.Index
	encrypt bool // what the manifest says of its chunks
	deep    bool // the key that was given opens them
}

// checkFile compares a file with the manifest. What is wrong goes into p's
// result.
func (v *Verifier) checkFile(p *pending, f manifest.File) {
	var err error
	if strings.HasSuffix(f.Name, ".blob") {
		err = v.checkBlob(p, f)
	} else {
		err = v.checkIndex(p, f)
	}
	if err != nil {
		p.result.problem("%s: %v", f.Name, err)
	}
}

// checkBlob reads a small file: its CRC, length and SHA-256, and, unless it is
// encrypted and there is no key for it, its content.
func (v *Verifier) checkBlob(p *pending, f manifest.File) error {
	b, err := p.reader.Blob(f.Name)
	if err != nil {
		return err
	}
	if err := compare(uint64(len(b)), sha256.Sum256(b), f); err != nil {
		return err
	}
	kind, err := b.Kind()
	if err != nil || kind.IsEncrypted() && !v.opens(p) {
		return err
	}
	_, err = b.Decode(nil, v.opt.Key)
	return err
}

// checkIndex reads an index, its kind, size and sum. One that is not what the
// manifest says is not looked into, for its chunks are not those of the backup.
func (v *Verifier) checkIndex(p *pending, f manifest.File) error {
	x, err := p.reader.Index(f.Name)
	if err != nil {
		return err
	}
	if _, fixed := x.(*chunks.Fixed); fixed != strings.HasSuffix(f.Name, ".fidx") {
		return fmt.Errorf("%w: it is of the other kind", chunks.ErrBadIndex)
	}
	if err := compare(uint64(x.Size()), x.Csum(), f); err != nil {
		return err
	}
	encrypt := f.CryptMode == manifest.Encrypt
	p.parts = append(p.parts, part{f.Name, x, encrypt, encrypt && v.opens(p)})
	p.bytes += int64(len(x.Bytes()))
	p.result.Chunks += int64(x.Len())
	return nil
}

func compare(size uint64, sum chunks.Digest, f manifest.File) error {
	if size != f.Size {
		return fmt.Errorf("size is %d bytes, the manifest says %d", size, f.Size)
	}
	if sum != f.Csum {
		return fmt.Errorf("sum is %s, the manifest says %s", sum.Short(), f.Csum.Short())
	}
	return nil
}

// opens reports whether the key that was given is the snapshot's.
func (v *Verifier) opens(p *pending) bool {
	if v.opt.Key == nil {
		return false
	}
	f, named := p.reader.Manifest().KeyFingerprint()
	return named && f == v.opt.Key.Fingerprint()
}

// scanChunks is how many chunks are looked up at a time.
const scanChunks = 4096

// scan compares the indexes of p with what is known of their chunks. Those that
// nobody has read yet it queues, and returns how many; then it has to be called
// again. Otherwise what is wrong is in p's result.
func (v *Verifier) scan(ctx context.Context, p *pending) (unread int, err error) {
	var found Result
	for _, part := range p.parts {
		n, err := v.scanPart(ctx, part, &found)
		if err != nil {
			return 0, err
		}
		unread += n
	}
	if unread == 0 {
		p.result.Errors = append(p.result.Errors, found.Errors...)
		p.result.Errors = p.result.Errors[:min(len(p.result.Errors), maxErrors)]
		p.result.ErrorCount += found.ErrorCount
	}
	return unread, nil
}

func (v *Verifier) scanPart(ctx context.Context, part part, found *Result) (unread int, err error) {
	batch := make([]chunks.Digest, 0, scanChunks)
	for first := 0; first < part.index.Len(); first += len(batch) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		batch = batch[:0]
		for i := first; i < min(first+scanChunks, part.index.Len()); i++ {
			batch = append(batch, part.index.Digest(i))
		}
		v.store.LocateMany(batch, func(i int, ref pack.Ref, held bool) {
			if !v.look(part, first+i, batch[i], ref, held, found) {
				unread++
			}
		})
		if len(v.queue) >= maxQueue {
			if err := v.read(ctx); err != nil {
				return 0, err
			}
		}
	}
	return unread, nil
}

// look compares chunk i of an index with what is known of it. It queues the
// chunk and reports false if nothing is.
func (v *Verifier) look(part part, i int, d chunks.Digest, ref pack.Ref, held bool, found *Result) bool {
	if !held {
		v.lost(d, errors.New("it is not in the store"))
		v.blame(part, i, d, "is missing", found)
		return true
	}
	n := v.notes.get(ref)
	start, end := part.index.Range(i)
	switch n.verdict() {
	case damaged:
		v.spoiled(d, errors.New("it was found damaged before"))
		v.blame(part, i, d, "is damaged", found)
	case missing:
		v.lost(d, errors.New("it was found missing before"))
		v.blame(part, i, d, "is missing", found)
	case good:
		if (n&encrypted != 0) != part.encrypt {
			v.blame(part, i, d, modeText(n&encrypted != 0), found)
		} else if size := int64(n & sizeMask); size != 0 && size != end-start {
			v.blame(part, i, d, fmt.Sprintf("holds %d bytes, the index says %d", size, end-start), found)
		}
	default:
		v.enqueue(d, ref, part.deep)
		return false
	}
	return true
}

func modeText(encrypted bool) string {
	if encrypted {
		return "is encrypted, the manifest says it is not"
	}
	return "is not encrypted, the manifest says it is"
}

// blame puts a chunk into the result of the snapshot that names it.
func (v *Verifier) blame(part part, i int, d chunks.Digest, what string, found *Result) {
	start, _ := part.index.Range(i)
	found.problem("%s: chunk %s at offset %d %s", part.name, d.Short(), start, what)
}
