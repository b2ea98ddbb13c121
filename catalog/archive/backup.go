package archive

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/archive/content"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// masterKeyBlob holds the key of an encrypted backup, itself encrypted for the
// owner of a master key (PBS protocol notes §5.5).
const masterKeyBlob = "rsa-encrypted.key.blob"

// Config says what to back up, where to, and how. The zero value of an optional
// field means its default.
type Config struct {
	Target   Target
	Snapshot naming.Snapshot
	Sources  []Source // backed up one after the other, in this order

	Key       *chunks.Key        // encrypts or signs; default: neither
	CryptMode manifest.CryptMode // default: encrypt with a key, none without

	// MasterKey adds the key, encrypted for the owner of the master key, to the
	// backup. KeyFile is the file that Key came from, and needed for that.
	MasterKey *rsa.PublicKey
	KeyFile   *keys.File

	Tree     tree.Options   // how directories are read
	Progress func(Progress) // called at most ten times a second, never twice at once
	Workers  int            // chunks worked on at the same time; default: processors, at most 4
}

func (c Config) withDefaults() (Config, error) {
	if c.Key != nil {
		c.CryptMode = cmp.Or(c.CryptMode, manifest.Encrypt)
	}
	c.CryptMode = cmp.Or(c.CryptMode, manifest.None)
	// An archive's chunk needs up to 16 MiB, and two more than there are
	// workers are in memory; one splitter keeps no more than 4 of them busy.
	c.Workers = cmp.Or(c.Workers, min(runtime.GOMAXPROCS(0), content.MaxWorkers))
	_, err := manifest.ParseCryptMode(string(c.CryptMode))
	switch {
	case err != nil:
		return c, fmt.Errorf("backup: %w", err)
	case c.Target == nil:
		return c, errors.New("backup: no target")
	case c.Workers < 1:
		return c, fmt.Errorf("backup: workers is %d, want at least 1", c.Workers)
	case c.CryptMode != manifest.None && c.Key == nil:
		return c, &failure{text: fmt.Sprintf("back up with crypt mode %s: there is no key", c.CryptMode), cure: "name the key file with --keyfile", kind: chunks.ErrNoKey}
	case c.CryptMode == manifest.None && c.Key != nil:
		return c, &failure{text: "back up with crypt mode none: a key was given", cure: "leave --keyfile out, or choose encrypt or sign-only"}
	case c.MasterKey != nil && (c.Key == nil || c.KeyFile == nil):
		return c, &failure{text: "encrypt the key for the master key: there is no key file", cure: "name the key file with --keyfile"}
	}
	return c, checkSources(c.Sources)
}

// encoding says how chunks and blobs are made.
func (c Config) encoding() chunks.EncodeOptions {
	opt := chunks.EncodeOptions{Compress: true}
	if c.CryptMode == manifest.Encrypt {
		opt.Key = c.Key
	}
	return opt
}

// Backup reads cfg.Sources into cfg.Target and returns the manifest that
// completes the snapshot, signed if there is a key. Sources that cannot be read
// fail with [ErrSource]; parts of a directory that cannot be read are left out
// and named in the summary's warnings. The target is to be thrown away if
// Backup fails. It stops soon after ctx ends, though not before a system call
// that is reading a source returns.
func Backup(ctx context.Context, cfg Config) (*manifest.Manifest, Summary, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, Summary{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &backup{cfg: cfg, fail: cancel, start: time.Now(), man: manifest.New(cfg.Snapshot), meter: meter{report: cfg.Progress}}
	if err := b.run(ctx); err != nil {
		if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil {
			err = cause // another pipeline failed first
		}
		cancel(err)
		b.catalog.abort()
		return nil, Summary{}, err
	}
	b.sum.Duration = time.Since(b.start)
	b.meter.tick(true)
	return b.man, b.sum, nil
}

// A backup is one call of Backup.
type backup struct {
	cfg     Config
	fail    context.CancelCauseFunc
	start   time.Time
	man     *manifest.Manifest
	sum     Summary
	meter   meter
	catalog *catalogStream // from the first directory on
}

func (b *backup) run(ctx context.Context) error {
	b.meter.total = b.total()
	for _, s := range b.cfg.Sources {
		if err := b.source(ctx, s); err != nil {
			return err
		}
	}
	if err := b.finishCatalog(); err != nil {
		return err
	}
	if b.cfg.MasterKey != nil {
		if err := b.masterKey(ctx); err != nil {
			return err
		}
	}
	b.man.SetUploadStats(b.sum.stats())
	if b.cfg.Key == nil {
		return nil
	}
	return b.man.Sign(b.cfg.Key)
}

// total returns how many bytes there are to read, 0 if a directory is among
// the sources: its size is known when it has been read.
func (b *backup) total() (n int64) {
	for _, s := range b.cfg.Sources {
		size, err := fileSize(s.Path)
		if s.Kind == Tree || err != nil {
			return 0 // what is wrong with it will be said when its turn comes
		}
		n += size
	}
	return n
}

func (b *backup) source(ctx context.Context, s Source) error {
	b.meter.begin(s.Archive())
	switch s.Kind {
	case Tree:
		return b.tree(ctx, s)
	case Image:
		return b.image(ctx, s)
	}
	return b.smallFile(ctx, s)
}

// add puts a finished archive into the manifest and the summary.
func (b *backup) add(name string, size int64, csum chunks.Digest, counts Counts, since time.Time) error {
	b.sum.Archives = append(b.sum.Archives, ArchiveSummary{name, counts, time.Since(since)})
	b.sum.Total.add(counts)
	return b.man.Add(manifest.File{Name: name, Size: uint64(size), Csum: csum, CryptMode: b.cfg.CryptMode})
}

// open begins an archive at the target.
func (b *backup) open(ctx context.Context, name string, size int64) (watched, error) {
	sink, err := b.cfg.Target.Open(ctx, name, size)
	if err != nil {
		return watched{}, fmt.Errorf("begin %s: %w", name, err)
	}
	return watched{sink, name, b.fail}, nil
}

func (b *backup) ingest(workers int) chunks.IngestOptions {
	return chunks.IngestOptions{Encode: b.cfg.encoding(), Workers: workers}
}

// stream takes a stream of unknown length into a dynamic index.
func (b *backup) stream(ctx context.Context, name string, r io.Reader, average int) (*chunks.Dynamic, chunks.IngestStats, error) {
	sink, err := b.open(ctx, name, -1)
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	split, err := chunks.NewSplitter(r, average)
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	var index chunks.DynamicBuilder
	stats, err := chunks.Ingest(ctx, sink, split, b.ingest(b.cfg.Workers), func(s chunks.Stored) error {
		b.meter.stored(s)
		if err := index.Append(s.Offset+int64(s.Size), s.Digest); err != nil {
			return err
		}
		return sink.Append(ctx, s)
	})
	if err != nil {
		return nil, stats, fmt.Errorf("back up %s: %w", name, err)
	}
	x, err := index.Finish(chunks.NewUUID(), b.start)
	if err != nil {
		return nil, stats, fmt.Errorf("back up %s: %w", name, err)
	}
	if err := sink.Close(ctx, x); err != nil {
		return nil, stats, fmt.Errorf("finish %s: %w", name, err)
	}
	return x, stats, nil
}
