// Package chunks names, checks and stores pieces of backup data.
//
// A chunk is at most 16 MiB of bytes, known by its [Digest]: the SHA-256 of
// its plain content; if it is encrypted, the key takes part in the sum. Two
// machines that hold the same chunk agree on its name without talking, which
// is what lets Holdfast ship only what a peer is missing. What lies on a disk
// or crosses a wire is a [Blob], the encoded form of a chunk, byte for byte
// as the client sent it. An index ([Fixed] or [Dynamic]) lists the digests
// that make up one disk image or archive.
//
// The package is the bottom of the tree: it imports nothing else of ours.
// Where chunks live is decided below it:
//
//	chunks/pack      pack files in a directory of the node
//	chunks/gc        what may be forgotten, and when
//	chunks/keys      key files, as proxmox-backup-client writes them
//	chunks/disk      the file system as the store sees it; disktest is its twin
//	chunks/chunktest the suite that every store passes, and twins with faults
package chunks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// A Source gives chunks back.
type Source interface {
	// Get returns the blob of d, checked as far as this place can check it
	// without decoding (sums of the stored bytes). It uses buf's memory if
	// that is large enough; the result is the caller's. A chunk that is not
	// here fails with [ErrMissing], one that is damaged with [ErrCorrupt].
	Get(ctx context.Context, d Digest, buf []byte) (Blob, error)

	// String names the place for messages: "pack store /srv/backup".
	String() string
}

// A Store is a source that knows what it holds.
type Store interface {
	Source

	// Missing returns those of want that are not held, in the order of want.
	Missing(ctx context.Context, want []Digest) ([]Digest, error)
}

// A Writer is a store that accepts chunks.
type Writer interface {
	Store

	// Put stores b under d unless d is held already, and says so. It does not
	// retain b. The chunk may be read at once; it is durable only after a
	// later Commit has returned nil. Put checks b's frame ([Blob.Check]), not
	// that the content matches d: that is the duty of whoever received it.
	Put(ctx context.Context, d Digest, b Blob) (known bool, err error)

	// Commit returns when every chunk put before the call is durable, or
	// fails, and then any of the chunks put since the last successful Commit
	// may be gone.
	Commit(ctx context.Context) error
}

// A Taker is a writer that can keep borrowed memory, so that a copy is saved.
type Taker interface {
	// Take is Put of the blob in a buffer, which the taker frees.
	Take(ctx context.Context, d Digest, b *Buffer) (known bool, err error)
}

// PutBuffer puts the blob in a buffer, which is not the caller's any more.
func PutBuffer(ctx context.Context, w Writer, d Digest, b *Buffer) (known bool, err error) {
	if t, ok := w.(Taker); ok {
		return t.Take(ctx, d, b)
	}
	defer b.Free()
	return w.Put(ctx, d, b.Bytes)
}

// A BatchSource hands out many chunks in the order that is cheapest to read.
type BatchSource interface {
	Source

	// GetMany calls fn once for each of want, in an order of its own and
	// possibly from several goroutines; the blob is valid only during the
	// call. A chunk that is missing or damaged is handed over as an error;
	// GetMany itself fails when fn does or ctx ends.
	GetMany(ctx context.Context, want []Digest, fn func(Digest, Blob, error) error) error
}

type readersKey struct{}

// WithReaders bounds how many files a [BatchSource] reads at the same time, where it
// reads files.
func WithReaders(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, readersKey{}, n)
}

// Readers returns what [WithReaders] has set, or the default of a source.
func Readers(ctx context.Context, fallback int) int {
	if n, is := ctx.Value(readersKey{}).(int); is && n > 0 {
		return n
	}
	return fallback
}

// A Planner is a source that reads better if it knows what will be asked for.
type Planner interface {
	// Plan returns a reader of the chunks of x, which will be asked for about
	// in order, some at the same time.
	Plan(x Index) Plan
}

// A Plan reads the chunks of one index. Its methods may be called concurrently.
type Plan interface {
	// Get is [Source.Get] of chunk i.
	Get(ctx context.Context, i int, buf []byte) (Blob, error)

	// Close lets go of what was read ahead. No Get may be under way.
	Close()
}

// A Lender is a source that has blobs in borrowed memory anyway, so that a copy
// is saved.
type Lender interface {
	// Lend is Get, into a buffer that the caller frees.
	Lend(ctx context.Context, d Digest) (*Buffer, error)
}

// Borrow returns the blob of d, whose content has size bytes, in a buffer that
// the caller frees.
func Borrow(ctx context.Context, src Source, d Digest, size int) (*Buffer, error) {
	if l, ok := src.(Lender); ok {
		return l.Lend(ctx, d)
	}
	buf := GetBuffer(size)
	b, err := src.Get(ctx, d, buf.Bytes)
	if err != nil {
		buf.Free()
		return nil, err
	}
	buf.Bytes = b
	return buf, nil
}

// GetMany reads want from src in the order that suits src best.
func GetMany(ctx context.Context, src Source, want []Digest, fn func(Digest, Blob, error) error) error {
	if batch, ok := src.(BatchSource); ok {
		return batch.GetMany(ctx, want, fn)
	}
	var buf []byte
	for _, d := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := src.Get(ctx, d, buf)
		if err := fn(d, b, err); err != nil {
			return err
		}
		buf = b[:0]
	}
	return nil
}

// Unknown returns those of want that are not known, in the order of want.
func Unknown(ctx context.Context, want []Digest, known func(Digest) bool) (unknown []Digest, err error) {
	for i, d := range want {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !known(d) {
			unknown = append(unknown, d)
		}
	}
	return unknown, nil
}

// The ways in which a store fails that somebody can do something about. Match
// them with errors.Is.
var (
	ErrMissing = errors.New("chunk is missing")
	ErrCorrupt = errors.New("chunk is damaged")
	ErrNoSpace = errors.New("no space left for chunks")

	// ErrAway says nothing of the chunk: where it lives cannot be read now.
	ErrAway = errors.New("chunk is out of reach, its home is away")
)

// NoSpace makes an error of a full disk, or of a full quota, recognisable as
// [ErrNoSpace]; others it returns as they are.
func NoSpace(err error) error {
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if full && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Away is the hint for an [ErrAway]: what is known of its cause, and what else helps.
func Away(err error) string {
	const other = "restore from a site that has a copy"
	archived := err != nil && strings.Contains(err.Error(), "archive class") // over a wire only the text comes
	var cause interface{ Hint() string }
	for ; err != nil; err = errors.Unwrap(err) {
		if _, outer := err.(*Error); !outer && errors.As(err, &cause) && cause.Hint() != "" {
			return cause.Hint() + "; or " + other
		}
	}
	if archived {
		return "thaw it: `holdfast datastore thaw NAME --dry-run` on its node says how long that takes and what it costs; or " + other
	}
	return "nothing is lost with it: try again when the home of this chunk, a bucket or another site, answers; or " + other
}

// An Error says which chunk, where, and what an operator can do about it.
type Error struct {
	Op     string // "read", "write", "verify"
	Digest Digest
	Place  string // what the store's String returned
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s chunk %s in %s: %v", e.Op, e.Digest.Short(), e.Place, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *Error) Hint() string {
	switch {
	case errors.Is(e.Err, ErrMissing):
		return "verify the datastore to learn which snapshots need this chunk; another copy of it heals them"
	case errors.Is(e.Err, ErrCorrupt):
		return "check the disk; verify the datastore, and let another copy replace the chunk"
	case errors.Is(e.Err, ErrNoSpace):
		return "prune snapshots and run garbage collection, or enlarge the disk"
	case errors.Is(e.Err, ErrAway):
		return Away(e.Err)
	}
	return ""
}
