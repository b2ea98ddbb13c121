package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// smallFile takes a configuration or log file into a blob.
func (b *backup) smallFile(ctx context.Context, s Source) error {
	start := time.Now()
	content, err := readSmall(s.Path)
	if err != nil {
		return err
	}
	return b.blob(ctx, s.Archive(), content, b.cfg.encoding(), start)
}

// masterKey adds the key for the owner of the master key. The blob itself is
// in the open, whatever the manifest says of the others.
func (b *backup) masterKey(ctx context.Context) error {
	start := time.Now()
	file, err := b.cfg.KeyFile.Unlocked(b.cfg.Key, time.Unix(b.cfg.Snapshot.Time, 0))
	if err != nil {
		return err
	}
	content, err := keys.EncryptWithMaster(file, b.cfg.MasterKey)
	if err != nil {
		return fmt.Errorf("encrypt the key for the master key: %w", err)
	}
	return b.blob(ctx, masterKeyBlob, content, chunks.EncodeOptions{}, start)
}

func (b *backup) blob(ctx context.Context, name string, content []byte, opt chunks.EncodeOptions, start time.Time) error {
	blob, err := chunks.Encode(nil, content, opt)
	if err != nil {
		return &failure{
			text: fmt.Sprintf("encode %s, %d bytes", name, len(content)),
			cure: "small files are kept whole in memory by every reader; back a large one up as an image, NAME.img:FILE",
			kind: ErrSource, cause: err,
		}
	}
	if err := b.cfg.Target.PutBlob(ctx, name, blob); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	size := int64(len(blob))
	stats := chunks.IngestStats{Bytes: int64(len(content)), NewBytes: int64(len(content)), StoredBytes: size}
	b.meter.stored(chunks.Stored{Size: len(content), Blob: len(blob)})
	return b.add(name, size, chunks.Sum(blob), Counts{IngestStats: stats}, start)
}

// readSmall reads all of a file. It may be a pipe, as shells make of <(…). Of
// one that is too large it reads just enough to be refused.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, sourceError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, sourceError(path, err)
	}
	if info.IsDir() {
		return nil, &failure{text: fmt.Sprintf("back up small file %s: it is a directory", path), cure: "back a directory up as NAME.pxar:" + path, kind: ErrSource}
	}
	var content bytes.Buffer
	content.Grow(int(min(max(info.Size(), 0), chunks.MaxPlain)) + bytes.MinRead)
	if _, err := content.ReadFrom(io.LimitReader(f, chunks.MaxPlain+1)); err != nil {
		return nil, sourceError(path, err)
	}
	return content.Bytes(), nil
}

// fileSize returns the size of a file or a block device in bytes.
func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return 0, err
	case info.Mode()&os.ModeDevice == 0:
		return info.Size(), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}
