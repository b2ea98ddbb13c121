package archive

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/archive/content"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// Random access to content; see package content.
type (
	Reader        = content.Reader
	ReaderOptions = content.ReaderOptions
	ChunkError    = content.ChunkError
)

// NewReader is that of package content.
func NewReader(ctx context.Context, src chunks.Source, idx chunks.Index, key *chunks.Key, opt ReaderOptions) (*Reader, error) {
	return content.NewReader(ctx, src, idx, key, opt)
}

// catalogIndex lists all archives of directories (PBS protocol notes §5.7).
const catalogIndex = "catalog.pcat1.didx"

// An Origin is a snapshot where it is kept. What it returns is not believed.
// Its methods may be called concurrently.
type Origin interface {
	Manifest() *manifest.Manifest
	Index(name string) (chunks.Index, error)
	Blob(name string) (chunks.Blob, error)
	Chunks() chunks.BatchSource
}

// Options say how a [Snapshot] is read. The zero value of a field means its
// default.
type Options struct {
	Key       *chunks.Key    // needed if the manifest is signed
	Overwrite bool           // Save replaces files, and writes to block devices
	KeepGoing bool           // Save and Stream put zeros where content is lost, and fail at the end
	Progress  func(Progress) // called at most ten times a second, never twice at once
	Workers   int            // chunks decoded at the same time; default: processors, at most 4
}

// A Snapshot reads what a backup made. It is safe for concurrent use.
type Snapshot struct {
	origin Origin
	opt    Options
	denied error // why nothing may be read: the key does not fit the manifest
}

// Open returns a reader of the snapshot in origin. Whether the key fits the
// manifest is said by Check, and by every method that reads.
func Open(origin Origin, opt Options) *Snapshot {
	opt.Workers = cmp.Or(opt.Workers, min(runtime.GOMAXPROCS(0), content.MaxWorkers))
	return &Snapshot{origin: origin, opt: opt, denied: origin.Manifest().Check(opt.Key)}
}

// Check fails if the snapshot must not be read with the key: it is another one
// than the backup was made with, it is missing, or the manifest was changed
// (PBS protocol notes §5.6).
func (s *Snapshot) Check() error { return s.denied }

// Manifest returns the manifest, which is to be trusted only if Check says so.
func (s *Snapshot) Manifest() *manifest.Manifest { return s.origin.Manifest() }

// file returns what the manifest says of a file.
func (s *Snapshot) file(name string) (manifest.File, error) {
	// The key is what is missing when one restores the copy that was made for
	// the master key.
	if s.denied != nil && name != masterKeyBlob {
		return manifest.File{}, s.denied
	}
	m := s.Manifest()
	if f, ok := m.File(name); ok {
		return f, nil
	}
	var names []string
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	return manifest.File{}, &failure{
		text: fmt.Sprintf("no %s in snapshot %s", name, m.Snapshot()),
		cure: "it has " + strings.Join(names, ", "),
		kind: ErrNotFound,
	}
}

// Index returns the index of an archive, after comparing it with the manifest.
// The name is that of the server ([ServerName]). It fails with ErrNotFound and
// ErrMismatch.
func (s *Snapshot) Index(name string) (chunks.Index, error) {
	dec, err := s.decoder(name)
	return dec.Index, err
}

// decoder returns what is needed to read an archive.
func (s *Snapshot) decoder(name string) (content.Decoder, error) {
	f, err := s.file(name)
	if err != nil {
		return content.Decoder{}, err
	}
	x, err := s.origin.Index(name)
	if err != nil {
		return content.Decoder{}, fmt.Errorf("open index %s: %w", name, err)
	}
	if uint64(x.Size()) != f.Size || x.Csum() != f.Csum {
		return content.Decoder{}, mismatch(name, x.Size(), x.Csum(), f)
	}
	dec := content.Decoder{Archive: name, Index: x, Key: s.opt.Key, Mode: f.CryptMode, Proved: s.proved()}
	return dec, dec.Check()
}

// proved reports whether the key is the one that the backup was made with.
func (s *Snapshot) proved() bool {
	_, has := s.Manifest().KeyFingerprint()
	return has && s.opt.Key != nil && s.denied == nil
}

func mismatch(name string, size int64, csum chunks.Digest, f manifest.File) error {
	return &failure{
		text: fmt.Sprintf("open %s: it has %d bytes and the sum %s, the manifest says %d and %s", name, size, csum.Short(), f.Size, f.Csum.Short()),
		cure: "the file or the manifest was damaged: verify the snapshot, and take it from another copy",
		kind: ErrMismatch,
	}
}

// Reader gives random access to the content of an archive. It must be closed.
// Of opt only the sizes count.
func (s *Snapshot) Reader(ctx context.Context, name string, opt ReaderOptions) (*Reader, error) {
	dec, err := s.decoder(name)
	if err != nil {
		return nil, err
	}
	return content.New(ctx, s.origin.Chunks(), dec, opt), nil
}

// Blob returns the content of a small file, at most 128 MiB, after comparing
// it with the manifest. That of index.json.blob is the manifest itself, and
// client.log.blob stands in no manifest, so that only its frame is checked.
func (s *Snapshot) Blob(name string) ([]byte, error) {
	switch name {
	case manifest.Name:
		return s.Manifest().JSON()
	case manifest.LogName:
		return s.clientLog()
	}
	f, err := s.file(name)
	if err != nil {
		return nil, err
	}
	b, err := s.origin.Blob(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if sum := chunks.Sum(b); uint64(len(b)) != f.Size || sum != f.Csum {
		return nil, mismatch(name, int64(len(b)), sum, f)
	}
	mode := f.CryptMode
	if name == masterKeyBlob { // its own lock is the master key
		mode = manifest.None
	}
	return s.openBlob(name, b, mode)
}

func (s *Snapshot) clientLog() ([]byte, error) {
	if s.denied != nil {
		return nil, s.denied
	}
	b, err := s.origin.Blob(manifest.LogName)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", manifest.LogName, err)
	}
	return s.openBlob(manifest.LogName, b, "")
}

func (s *Snapshot) openBlob(name string, b chunks.Blob, mode manifest.CryptMode) ([]byte, error) {
	if err := content.CheckMode(b, mode); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	content, err := b.Decode(nil, s.opt.Key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return content, nil
}
