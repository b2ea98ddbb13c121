package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"sync"
	"sync/atomic"
)

const (
	journalPerm = 0o600

	// flushBytes is how much waits in memory before Append writes it. It only
	// bounds memory: whoever needs durability calls Sync long before.
	flushBytes = 4 << 20

	// spareBytes is the largest buffer that is kept for the next batch.
	spareBytes = 1 << 20
)

// A Journal is an append-only file of checksummed records: the small durable
// state of a store. Its methods may be called concurrently.
type Journal struct {
	fs   FS
	name string

	mu sync.Mutex

	pending  []byte // records as in the file, their heads blank but for the length
	spare    []byte // memory for the next pending
	appended uint64 // records ever appended

	io sync.Mutex // held while the file is written; taken before mu

	file    File
	salt    journalSalt
	end     atomic.Int64 // bytes in the file; changed only under io
	synced  int64        // of these durable
	flushed uint64       // records of appended that are in the file
	durable uint64       // and durable
	marked  bool         // a mark is the last record of the file
	err     error        // poison: nothing is known of the file since
}

// OpenJournal opens a journal, or creates an empty one, durably. It calls
// replay for every record, in order; the record is replay's to keep. Records
// that were never synced may be missing from the end, but no record appears
// without all before it. If a record is damaged that was durable once,
// OpenJournal fails with a [*JournalError] after it has replayed those before
// it, and changes nothing.
func OpenJournal(fsys FS, name string, replay func(record []byte) error) (*Journal, error) {
	if err := RemoveTemps(fsys, name); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{fs: fsys, name: name}
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := j.Rewrite(func(func([]byte) bool) {}); err != nil {
			return nil, fmt.Errorf("create journal: %w", err)
		}
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.file = f
	if err := j.recover(replay); err != nil {
		_ = f.Close() // the error that matters is the first
		return nil, err
	}
	return j, nil
}

// recover replays the file, cuts off a torn tail, and makes durable what is
// left: a process that was killed may have left records, and even the file's
// name, that no disk has seen.
func (j *Journal) recover(replay func([]byte) error) error {
	r, err := newJournalReader(j.file, j.name)
	if err != nil {
		return err
	}
	j.salt = r.salt
	end, marked, err := r.replay(replay)
	if err != nil {
		return err
	}
	if end < r.size {
		if err := j.file.Truncate(end); err != nil {
			return fmt.Errorf("cut off torn tail of journal %s: %w", j.name, err)
		}
	}
	err = j.file.Sync()
	if err == nil {
		err = j.fs.SyncDir(path.Dir(j.name))
	}
	if err != nil {
		return fmt.Errorf("sync journal %s: %w", j.name, err)
	}
	j.end.Store(end)
	j.synced, j.marked = end, marked
	return nil
}

// Append adds a record of at most [MaxRecord] bytes behind those appended
// before, and does not retain it. It is in memory until Flush or Sync. Errors
// are those of the next Sync: also that the record is too large, after which
// only Rewrite helps.
func (j *Journal) Append(record []byte) {
	if err := tooLarge(j.name, record); err != nil {
		j.io.Lock()
		defer j.io.Unlock()
		_ = j.poison(err)
		return
	}
	if j.buffer(record) >= flushBytes {
		_ = j.Flush() // if it fails, so does every Sync
	}
}

// buffer adds record to what is pending, and returns the size of that.
func (j *Journal) buffer(record []byte) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = appendRecord(j.pending, record)
	j.appended++
	return len(j.pending)
}

// Flush hands all records appended before the call to the file system, so
// that they survive the process. They are not durable yet.
func (j *Journal) Flush() error {
	j.io.Lock()
	defer j.io.Unlock()
	return j.write()
}

// Sync makes all records appended before the call durable. Callers that wait
// for each other share one fsync. After an error every later call returns it,
// until Rewrite succeeds: the kernel may have dropped what it could not write,
// and would not say so again.
func (j *Journal) Sync() error {
	j.mu.Lock()
	target := j.appended
	j.mu.Unlock()

	j.io.Lock()
	defer j.io.Unlock()
	if j.err == nil && j.durable >= target {
		return nil // whoever held the lock before took ours along
	}
	return j.sync()
}

// sync writes and syncs what is pending. j.io is held.
func (j *Journal) sync() error {
	if err := j.write(); err != nil {
		return err
	}
	if j.durable == j.flushed {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return j.poison(fmt.Errorf("sync journal %s: %w", j.name, err))
	}
	j.durable, j.synced = j.flushed, j.end.Load()
	return nil
}

// write hands what is pending to the file system. On a poisoned journal it
// drops it: only Rewrite helps, which supersedes it. j.io is held.
func (j *Journal) write() error {
	batch, upTo := j.take()
	defer j.giveBack(batch)
	if j.err != nil || len(batch) == 0 {
		return j.err
	}
	end := j.end.Load()
	j.salt.seal(batch, end, j.synced)
	if _, err := j.file.WriteAt(batch, end); err != nil {
		return j.poison(fmt.Errorf("write journal %s: %w", j.name, err))
	}
	j.end.Store(end + int64(len(batch)))
	j.flushed, j.marked = upTo, false
	return nil
}

// poison makes every later Sync fail with err, or with what it fails with
// already. j.io is held.
func (j *Journal) poison(err error) error {
	if j.err == nil {
		j.err = err
	}
	return err
}

// take returns the records that are pending, and the number of the last.
func (j *Journal) take() ([]byte, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch := j.pending
	j.pending, j.spare = j.spare, nil
	return batch, j.appended
}

// giveBack keeps the memory of a batch for the next, unless it is large.
func (j *Journal) giveBack(batch []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cap(batch) <= spareBytes {
		j.spare = batch[:0]
	}
}

// putBack undoes take.
func (j *Journal) putBack(batch []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(batch, j.pending...)
}

// Size returns the bytes in the file, to decide when to Rewrite it.
func (j *Journal) Size() int64 { return j.end.Load() }

// Rewrite replaces the content by records, atomically and durably, and cures a
// poisoned journal. What was appended before the call and is not synced is
// superseded; what is appended while it runs is kept, behind records. If it
// fails to write the new file, nothing has changed; if it fails to put it in
// place, nobody knows which one a crash would leave, and the journal is
// poisoned. records must not use the journal.
func (j *Journal) Rewrite(records iter.Seq[[]byte]) error {
	j.io.Lock()
	defer j.io.Unlock()
	if errors.Is(j.err, fs.ErrClosed) {
		return j.err
	}
	superseded, upTo := j.take()
	salt := newSalt()
	var end int64
	f, err := prepare(j.fs, j.name, journalPerm, func(f File) (err error) {
		end, err = writeRecords(f, j.name, salt, records)
		return err
	})
	if err != nil {
		j.putBack(superseded)
		return err
	}
	if err := install(j.fs, f.Name(), j.name); err != nil {
		_ = f.Close() // the error that matters is the first
		return j.poison(err)
	}
	if j.file != nil {
		_ = j.file.Close() // nobody will read it again
	}
	j.file, j.salt, j.synced, j.err = f, salt, end, nil
	j.flushed, j.durable, j.marked = upTo, upTo, end > headerBytes
	j.end.Store(end)
	return nil
}

// Close makes everything durable and closes the file. Every later call fails
// with fs.ErrClosed.
func (j *Journal) Close() error {
	j.io.Lock()
	defer j.io.Unlock()
	if errors.Is(j.err, fs.ErrClosed) {
		return j.err
	}
	err := j.sync()
	if err == nil && !j.marked && j.end.Load() > headerBytes {
		j.mark()
	}
	j.err = fmt.Errorf("journal %s: %w", j.name, fs.ErrClosed)
	return errors.Join(err, j.file.Close())
}

// mark vouches for all records of the file. Should that fail, as on a full
// disk, no record is worse off than after a crash.
func (j *Journal) mark() {
	if _, err := j.file.WriteAt(j.salt.mark(j.end.Load()), j.end.Load()); err == nil {
		_ = j.file.Sync()
	}
}
