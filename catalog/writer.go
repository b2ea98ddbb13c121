package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A Writer makes one snapshot. It holds the group, and the group's last
// snapshot, until Finish or Abort; one of them must be called. Its methods may
// be called concurrently, except those two, which come last.
type Writer struct {
	d       *Datastore
	ns      Namespace
	snap    Snapshot
	older   bool // than what is there, which is no mistake
	session *gc.Session
	prev    Snapshot // Time 0: none
	free    []func()
	noted   func() error // takes the note of the running backup back

	mu    sync.Mutex
	files map[string]written // what was put
	blobs sync.Mutex         // held while one is written
}

// written is a file of a snapshot in the making.
type written struct {
	size int64         // as the manifest states it: of an index, that of the content
	csum chunks.Digest // the same
	root bool          // an index: it needs chunks
}

// Begin begins a snapshot, makes its group if need be, and the group's owner.
// It fails with ErrBusy if another backup of the group is running, with
// fs.ErrExist if the snapshot or a later one is there, and with ErrOwner if
// the group is somebody else's.
func (d *Datastore) Begin(ctx context.Context, ns Namespace, s Snapshot, owner string) (*Writer, error) {
	return d.beginWriter(ctx, ns, s, owner, false)
}

// Insert is Begin for a snapshot that was made elsewhere, and may be older
// than those that are there. Previous is then the last one before it.
func (d *Datastore) Insert(ctx context.Context, ns Namespace, s Snapshot, owner string) (*Writer, error) {
	return d.beginWriter(ctx, ns, s, owner, true)
}

func (d *Datastore) beginWriter(ctx context.Context, ns Namespace, s Snapshot, owner string, older bool) (*Writer, error) {
	if err := d.may(writing, "back up "+name(ns, s)); err != nil {
		return nil, err
	}
	if ok, err := d.HasNamespace(ns); err != nil || !ok {
		return nil, cmpErr(err, &opError{fmt.Sprintf("namespace %q does not exist", ns), fmt.Sprintf("make it: holdfast namespace create STORE:%s", ns), fs.ErrNotExist})
	}
	w := &Writer{d: d, ns: ns, snap: s, older: older, files: map[string]written{}}
	err := w.begin(ctx, owner)
	if err != nil {
		w.release()
		return nil, fmt.Errorf("begin snapshot %s: %w", name(ns, s), chunks.NoSpace(err))
	}
	return w, nil
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (w *Writer) begin(ctx context.Context, owner string) error {
	d := w.d
	w.free = append(w.free, count(&d.active.writers, func() {}))
	if err := w.lock(d.locks.exclusive, name(w.ns, w.snap.Group)); err != nil {
		return err
	}
	if err := w.lock(d.locks.exclusive, name(w.ns, w.snap)); err != nil {
		return err
	}
	if err := d.ensureGroup(w.ns, w.snap.Group, owner); err != nil {
		return err
	}
	if err := d.sweepTemps(w.ns, w.snap.Group); err != nil {
		return err
	}
	if err := w.findPrevious(ctx); err != nil {
		return err
	}
	var err error
	if w.noted, err = d.noteRunning(w.ns, w.snap); err != nil {
		return err
	}
	if err := d.FS.Mkdir(d.snapDir(w.ns, w.snap), 0o755); err != nil {
		return err
	}
	whose := name(w.ns, w.snap)
	w.session, err = d.collector.Open("backup", whose[:min(len(whose), maxLeaseName)])
	if err != nil {
		return errors.Join(err, w.clear())
	}
	return nil
}

// maxLeaseName is how long the name of a lease may be, in bytes.
const maxLeaseName = 255

// clear removes what there is of the snapshot. If that fails the note of the
// running backup stays, and the next start removes the rest.
func (w *Writer) clear() error {
	err := w.d.removeDir(w.d.snapDir(w.ns, w.snap))
	if err != nil {
		w.noted = nil
	}
	return err
}

func (w *Writer) lock(take func(string) (func(), error), what string) error {
	free, err := take(what)
	if err != nil {
		return err
	}
	w.free = append(w.free, free)
	return nil
}

// findPrevious holds the last finished snapshot, which an incremental backup
// builds on, and refuses to go back in time.
func (w *Writer) findPrevious(ctx context.Context) error {
	snaps, err := w.d.Snapshots(ctx, w.ns, w.snap.Group)
	if err != nil {
		return err
	}
	if w.older {
		snaps = slices.DeleteFunc(snaps, func(s Snapshot) bool { return s.Time > w.snap.Time })
	}
	if len(snaps) > 0 && snaps[0].Time >= w.snap.Time {
		return &opError{fmt.Sprintf("group %s has a snapshot of %s, which is not older", w.snap.Group, naming.FormatTime(snaps[0].Time)), "check the clock of this machine, or give another --backup-time", fs.ErrExist}
	}
	for _, s := range snaps {
		free, err := w.d.locks.shared(name(w.ns, s))
		if err != nil {
			continue // it is being removed
		}
		if _, err := w.d.FS.Stat(path.Join(w.d.snapDir(w.ns, s), manifestName)); err != nil {
			free()
			continue // not finished
		}
		w.free = append(w.free, free)
		w.prev = s
		return nil
	}
	return nil
}

// ensureGroup makes the directory of a group and its owner, durably.
func (d *Datastore) ensureGroup(ns Namespace, g Group, owner string) error {
	dir := d.groupDir(ns, g)
	now, err := d.Owner(ns, g)
	switch {
	case err == nil && now == owner:
		return nil
	case err == nil:
		return &opError{fmt.Sprintf("group %s belongs to %s, not to %s", name(ns, g), now, owner), "choose another --backup-id or namespace, or change the owner", ErrOwner}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := naming.CheckAuthID(owner); err != nil {
		return err
	}
	if err := disk.MkdirAll(d.FS, dir, 0o755); err != nil {
		return err
	}
	// Whoever made the namespace may have failed before that was durable.
	for up := path.Dir(d.nsDir(ns)); len(up) >= len(d.Dir); up = path.Dir(up) {
		if err := d.FS.SyncDir(up); err != nil {
			return err
		}
	}
	return disk.WriteFileAtomic(d.FS, path.Join(dir, ownerName), []byte(owner+"\n"), 0o644)
}

// Session is where the chunks go; see gc.Session.
func (w *Writer) Session() *gc.Session { return w.session }

// Previous returns the last finished snapshot of the group.
func (w *Writer) Previous() (s Snapshot, ok bool) { return w.prev, w.prev.Time != 0 }

// PreviousIndex returns an index of the last snapshot, whose chunks need not
// be sent again. It returns nil and no error if there is no such snapshot, if
// it has no such index, or if it was found damaged: then all is sent anew, and
// that mends what can be mended.
func (w *Writer) PreviousIndex(archive string) (chunks.Index, error) {
	if w.prev.Time == 0 {
		return nil, nil
	}
	m, err := w.d.Manifest(w.ns, w.prev)
	if err != nil {
		return nil, nil
	}
	if v, ok := m.VerifyState(); ok && v.State != "ok" {
		return nil, nil
	}
	f, ok := m.File(archive)
	if !ok {
		return nil, nil
	}
	x, err := w.d.ReadIndex(w.ns, w.prev, archive)
	if err != nil || x.Csum() != f.Csum {
		return nil, nil
	}
	return x, nil
}

// PutIndex writes an index. Its chunks must be in the session by the time of
// Finish.
func (w *Writer) PutIndex(archive string, x chunks.Index) error {
	return w.put(archive, x.Bytes(), written{x.Size(), x.Csum(), true})
}

// PutBlob writes a small file.
func (w *Writer) PutBlob(archive string, b chunks.Blob) error {
	if err := b.Check(); err != nil {
		return fmt.Errorf("write %s: %w", archive, err)
	}
	return w.put(archive, b, written{int64(len(b)), sha256.Sum256(b), false})
}

func (w *Writer) put(archive string, data []byte, f written) error {
	if err := naming.CheckArchive(archive); err != nil {
		return err
	}
	if roots.IsIndex(archive) != f.root || archive == manifestName {
		return fmt.Errorf("write %s: a file of that name has another kind", archive)
	}
	if !f.root { // it replaces what it follows, so that what files says is there
		w.blobs.Lock()
		defer w.blobs.Unlock()
	}
	w.mu.Lock()
	old, twice := w.files[archive]
	if !twice || !f.root {
		w.files[archive] = f
	}
	w.mu.Unlock()
	if twice && f.root {
		return fmt.Errorf("write %s: the snapshot has it already", archive)
	}
	err := w.write(archive, data)
	if err != nil {
		w.mu.Lock()
		if delete(w.files, archive); twice { // so that Finish knows, and it may be put again
			w.files[archive] = old
		}
		w.mu.Unlock()
		return fmt.Errorf("write %s of %s: %w", archive, name(w.ns, w.snap), chunks.NoSpace(err))
	}
	return nil
}

// write writes a file of the snapshot. It gets its name when it is whole: a
// collection that meets half an index would have to give up.
func (w *Writer) write(archive string, data []byte) error {
	dir := w.d.snapDir(w.ns, w.snap)
	temp := path.Join(dir, tempName())
	err := writeNew(w.d.FS, temp, data)
	if err == nil {
		err = w.d.FS.Rename(temp, path.Join(dir, archive))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(w.d.FS.Remove(temp)))
	}
	return nil
}

// Finish ends the snapshot: it checks that what m lists was put and is what m
// says, that every chunk is here, also those of files that m does not list,
// makes all of it durable, and writes the manifest last. After an error nothing of it counts; it may be called again,
// or Abort.
func (w *Writer) Finish(ctx context.Context, m *Manifest) error {
	blob, err := m.Blob()
	if err = errors.Join(w.check(m), err); err != nil {
		return fmt.Errorf("finish snapshot %s: %w", name(w.ns, w.snap), err)
	}
	dir := w.d.snapDir(w.ns, w.snap)
	var indexes []gc.Index
	for archive, f := range w.files {
		if f.root {
			indexes = append(indexes, roots.File(w.d.FS, path.Join(dir, archive), archive))
		}
	}
	err = w.session.Finish(ctx, indexes, func() error {
		if err := w.d.FS.SyncDir(dir); err != nil { // before anybody can see a manifest there
			return err
		}
		return w.d.replace(w.ns, w.snap, manifestName, blob)
	})
	if a, ok := w.d.above.(interface{ Finished(context.Context) error }); ok && err == nil {
		err = a.Finished(ctx)
	}
	if err != nil {
		return fmt.Errorf("finish snapshot %s: %w", name(w.ns, w.snap), chunks.NoSpace(err))
	}
	w.d.tell(w.ns, w.snap.Group)
	w.release()
	return nil
}

// check compares the manifest with what was put.
func (w *Writer) check(m *Manifest) error {
	if m.Snapshot() != w.snap {
		return fmt.Errorf("manifest is that of %s", m.Snapshot())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range m.Files {
		got, ok := w.files[f.Name]
		switch {
		case !ok:
			return fmt.Errorf("manifest lists %s, which was not sent", f.Name)
		case got.csum != f.Csum || got.size != int64(f.Size):
			return fmt.Errorf("%s is not what the manifest says: %d bytes with sum %s, want %d and %s", f.Name, got.size, got.csum.Short(), f.Size, f.Csum.Short())
		}
	}
	return nil
}

// Sum returns size and checksum of a file that was put, as a manifest states
// them.
func (w *Writer) Sum(archive string) (size int64, sum chunks.Digest, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.files[archive]
	return f.size, f.csum, ok
}

// Unlisted returns the files that were put and are not in m, sorted. They are
// kept, as PBS does: with their chunks, and shown in lists. But nothing says
// what they should be, so verification does not cover them.
func (w *Writer) Unlisted(m *Manifest) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for archive := range w.files {
		if _, listed := m.File(archive); !listed && archive != logName {
			names = append(names, archive)
		}
	}
	slices.Sort(names)
	return names
}

// Abort gives the snapshot up and removes what there is of it. Calling it
// after Finish or Abort does nothing.
func (w *Writer) Abort() error {
	if w.free == nil {
		return nil
	}
	w.session.Abort()
	err := w.clear()
	w.release()
	return err
}

// release lets go of locks, and of the note that the snapshot is in the making.
func (w *Writer) release() {
	if w.noted != nil {
		if err := w.noted(); err != nil { // the next start removes it
			w.d.log.Warn("note of a backup could not be removed", "snapshot", name(w.ns, w.snap), "err", err)
		}
		w.noted = nil
	}
	for _, free := range w.free {
		free()
	}
	w.free = nil
}
