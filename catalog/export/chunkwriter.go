package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const (
	// A batch of chunk files is made durable together, which costs a few
	// flushes of the disk instead of one for each. It is what an export that
	// is killed has to write again.
	batchFiles = 256
	batchBytes = 64 << 20
)

// A chunkWriter writes chunk files. A file gets its name only when its content
// is durable: one that has its name is whole, whatever happens.
type chunkWriter struct {
	fs        disk.FS
	dir, temp string
	workers   int

	mu      sync.Mutex // of what follows
	pending []pendingFile
	bytes   int
	serial  int
	dirty   map[string]bool // directories with names that are not durable
}

// A pendingFile has its content, but not its name.
type pendingFile struct {
	digest chunks.Digest
	file   disk.File
}

// write writes the file of one chunk. It may be called from several
// goroutines, with different chunks.
func (w *chunkWriter) write(ctx context.Context, d chunks.Digest, b chunks.Blob) error {
	w.mu.Lock()
	w.serial++
	temp := path.Join(w.temp, fmt.Sprintf("%d", w.serial))
	w.mu.Unlock()
	f, err := w.fs.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return chunks.NoSpace(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return errors.Join(chunks.NoSpace(err), f.Close())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, pendingFile{d, f})
	if w.bytes += len(b); w.bytes < batchBytes && len(w.pending) < batchFiles {
		return nil
	}
	return w.install(ctx)
}

// install makes the pending files durable and gives them their names. The
// caller holds w.mu, so others wait: they would only make the queue longer.
func (w *chunkWriter) install(ctx context.Context) error {
	files := w.pending
	w.pending, w.bytes = nil, 0
	err := each(ctx, w.workers, len(files), func(_ context.Context, i int) error { return chunks.NoSpace(files[i].file.Sync()) })
	for _, p := range files {
		err = errors.Join(err, p.file.Close())
	}
	if err != nil {
		return err
	}
	for _, p := range files {
		name := path.Join(w.dir, chunkPath(p.digest))
		if err := w.fs.Rename(p.file.Name(), name); err != nil {
			return err
		}
		w.dirty[path.Dir(name)], w.dirty[w.temp] = true, true // a name moves only when both ends know
	}
	return nil
}

// commit returns when all that was written is durable under its name.
func (w *chunkWriter) commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.install(ctx); err != nil {
		return err
	}
	dirs := make([]string, 0, len(w.dirty))
	for dir := range w.dirty {
		dirs = append(dirs, dir)
	}
	err := each(ctx, w.workers, len(dirs), func(_ context.Context, i int) error { return w.fs.SyncDir(dirs[i]) })
	if err == nil {
		clear(w.dirty)
	}
	return err
}

// abandon closes what is open; emptyTemp removes it.
func (w *chunkWriter) abandon() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	for _, p := range w.pending {
		err = errors.Join(err, p.file.Close())
	}
	w.pending = nil
	return err
}

// held returns the length of the file of a chunk, 0 if there is none. It
// touches the file, which keeps a PBS from collecting it before a snapshot
// names it.
func (w *chunkWriter) held(d chunks.Digest) (int64, error) {
	name := path.Join(w.dir, chunkPath(d))
	info, err := w.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if t, ok := w.fs.(toucher); ok && info.Size() > 0 {
		if err := t.Touch(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	return info.Size(), nil
}
