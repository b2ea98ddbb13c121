package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Names in the directory of a PBS datastore, and in one of ours.
const (
	chunksDir = ".chunks"
	lockName  = ".lock"
	packsDir  = "packs"

	manifestName  = "index.json.blob"
	logName       = "client.log.blob"
	protectedName = ".protected"
	ownerName     = "owner"
	notesName     = "notes"
)

// ErrNotPBS says that a directory is not a datastore of PBS. Match it with
// errors.Is.
var ErrNotPBS = errors.New("not a datastore of Proxmox Backup Server")

// A refusal is an error with a known cure.
type refusal struct {
	msg, cure string
	err       error
}

func (r *refusal) Error() string { return r.msg }
func (r *refusal) Hint() string  { return r.cure }
func (r *refusal) Unwrap() error { return r.err }

// IsPBS reports whether dir is a datastore directory of PBS: it has .chunks/
// and no packs/.
func IsPBS(fsys disk.FS, dir string) bool {
	info, err := fsys.Stat(path.Join(dir, chunksDir))
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = fsys.Stat(path.Join(dir, packsDir))
	return errors.Is(err, fs.ErrNotExist)
}

// A PBS is a datastore directory of PBS that is read in place, also on a mount
// that is read-only and while a PBS works in it. Nothing is ever written to it.
// What a PBS removes meanwhile is gone: a read then fails with fs.ErrNotExist
// or chunks.ErrMissing. It is safe for concurrent use and needs no closing.
type PBS struct {
	catalog.Tree
	chunks *Chunks
}

// OpenPBS opens the datastore in dir. It fails with [ErrNotPBS].
func OpenPBS(fsys disk.FS, dir string) (*PBS, error) {
	if !IsPBS(fsys, dir) {
		_, err := fsys.ReadDir(dir)
		if err == nil {
			err = ErrNotPBS
		}
		return nil, &refusal{
			fmt.Sprintf("open PBS datastore %s: %v", dir, err),
			"name the directory that holds .chunks; `proxmox-backup-manager datastore list` shows it", err,
		}
	}
	fsys = readOnly{fsys}
	return &PBS{
		Tree:   catalog.Tree{FS: fsys, Dir: dir},
		chunks: &Chunks{fs: fsys, dir: path.Join(dir, chunksDir), place: "PBS datastore " + dir, readers: defaultReaders},
	}, nil
}

// Chunks returns the chunks of the datastore.
func (p *PBS) Chunks() *Chunks { return p.chunks }

// OpenSnapshot opens a finished snapshot for reading. It fails with
// fs.ErrNotExist if there is none. Nothing keeps a PBS from removing it.
func (p *PBS) OpenSnapshot(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := p.Manifest(ns, s)
	if err != nil {
		return nil, err
	}
	return &Snapshot{p, ns, s, m}, nil
}

// A Snapshot of a PBS datastore is what a restore reads from, like a
// [catalog.Reader].
type Snapshot struct {
	pbs      *PBS
	ns       catalog.Namespace
	snap     catalog.Snapshot
	manifest *catalog.Manifest
}

// Close does nothing: the datastore is not locked.
func (s *Snapshot) Close() {}

// Manifest returns the manifest as it was when the snapshot was opened.
func (s *Snapshot) Manifest() *catalog.Manifest { return s.manifest }

// Index reads an index of the snapshot.
func (s *Snapshot) Index(archive string) (chunks.Index, error) {
	return s.pbs.ReadIndex(s.ns, s.snap, archive)
}

// Blob reads a small file of the snapshot.
func (s *Snapshot) Blob(archive string) (chunks.Blob, error) {
	return s.pbs.ReadBlob(s.ns, s.snap, archive)
}

// Chunks returns where the chunks are.
func (s *Snapshot) Chunks() chunks.BatchSource { return s.pbs.chunks }
