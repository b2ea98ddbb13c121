// Package logstore keeps the Raft log, the Raft vote and the commit index of
// one node in one file, so that a node that wakes up alone still knows what
// was agreed.
//
// Raft itself needs only the log and the vote: what is committed it learns
// again from the next leader. A site that is cut off has no next leader, so
// with a stock store it would wake up knowing nothing (measured: 0 of 100
// commands). This store therefore also remembers the commit index, in two
// ways: staged by Raft and written with the next entries
// ([raft.CommitTrackingLogStore]), and told by whoever applies entries
// ([Store.Applied]), which makes every acknowledged entry survive.
//
// The file is a bbolt database with the buckets log (index → record, see
// [encode]), stable (the vote) and meta (format and commit index). Every call
// that changes something returns when it is durable. Every record has a sum
// that covers its index, so that a lost or misplaced page is an error instead
// of a different history.
package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The names in the file.
var (
	logBucket    = []byte("log")
	stableBucket = []byte("stable")
	metaBucket   = []byte("meta")
	formatKey    = []byte("format")
	commitKey    = []byte("commit")
)

const format = 1

// errNotFound has the text that raft compares with.
var errNotFound = errors.New("not found")

// Config says where a [Store] is.
type Config struct {
	Path string // of the file; required

	// NoSync leaves out every fsync. Only for tests.
	NoSync bool
}

// A Store is the log and the vote of one node. Its methods may be called
// concurrently.
type Store struct {
	db     *bolt.DB
	path   string
	file   os.FileInfo   // as it was opened
	mu     sync.Mutex    // held by who writes the commit index
	staged atomic.Uint64 // commit index to be written with the next entries
	commit atomic.Uint64 // commit index as written
}

var (
	_ raft.CommitTrackingLogStore = (*Store)(nil)
	_ raft.StableStore            = (*Store)(nil)
	_ raft.MonotonicLogStore      = (*Store)(nil)
)

// Open opens the file, or makes it, and reads all of it once: a log that
// cannot be read is found now and not in the middle of an election.
func Open(cfg Config) (*Store, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", cfg.Path, err)
	}
	return s, nil
}

func open(cfg Config) (s *Store, err error) {
	if cfg.Path == "" {
		return nil, errors.New("no path")
	}
	defer func() { // bbolt panics on some damaged pages
		if p := recover(); p != nil {
			s, err = nil, damaged(fmt.Errorf("%v", p))
		}
	}()
	info, err := os.Stat(cfg.Path)
	isNew := errors.Is(err, os.ErrNotExist)
	if err == nil && info.Size() > 0 {
		if err := probe(cfg.Path); err != nil {
			return nil, err
		}
	}
	db, err := openFile(cfg.Path, &bolt.Options{NoSync: cfg.NoSync, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	s = &Store{db: db, path: cfg.Path}
	if s.file, err = os.Stat(cfg.Path); err == nil {
		err = s.setUp()
	}
	if err == nil {
		err = s.check()
	}
	if err == nil && isNew && !cfg.NoSync {
		err = syncDir(filepath.Dir(cfg.Path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func openFile(path string, o *bolt.Options) (*bolt.DB, error) {
	o.Timeout = time.Second
	db, err := bolt.Open(path, 0o600, o)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &Error{errors.New("another process has it open"), "only one daemon may run on a data directory: stop the other one"}
	case err != nil && !errors.As(err, new(*fs.PathError)): // not what the system says of the file
		return nil, damaged(err)
	}
	return db, err
}

// probe walks over all that is in the file, in this goroutine: what is wrong with
// a page panics here, and what was cut off faults here, where both are caught.
// bbolt walks over all pages as well when it opens a file for writing, but in a
// goroutine of its own, and a panic there is the end of the whole node.
func probe(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(fmt.Errorf("%v", p))
		}
	}()
	db, err := openFile(path, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sum := byte(0)
	return db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				for _, some := range [][]byte{k, v} {
					for i := 0; i < len(some); i += 512 { // a sector
						sum += some[i]
					}
				}
				return nil
			})
		})
	})
}

// ErrGone is a write to a file that was removed, or is another one by now: it would
// succeed, and nobody could read it again.
var ErrGone = errors.New("the file was removed while it was in use")

// update changes the file, if it is there.
func (s *Store) update(f func(*bolt.Tx) error) error {
	if info, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(info, s.file) {
		return &Error{ErrGone, "stop the daemon; put the directory back as it was, or move what is left away and join again: `holdfast invite create --replaces NAME` on another node; if there is no other, see docs/cluster.md"}
	}
	return s.db.Update(f)
}

// setUp makes the buckets and checks the format.
func (s *Store) setUp() error {
	var ready bool
	err := s.db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			return nil
		}
		ready = true
		v, err := number(meta.Get(formatKey))
		switch {
		case err != nil:
			return damaged(fmt.Errorf("format: %w", err))
		case v > format:
			return &Error{fmt.Errorf("it has format %d, this program knows up to %d", v, format), "upgrade holdfast on this machine"}
		}
		commit, err := number(meta.Get(commitKey))
		if err != nil {
			return damaged(fmt.Errorf("commit index: %w", err))
		}
		s.commit.Store(commit)
		return nil
	})
	if err != nil || ready {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{logBucket, stableBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		return errors.Join(meta.Put(formatKey, key(format)), meta.Put(commitKey, key(0)))
	})
}

// check reads every record.
func (s *Store) check() error {
	return s.db.View(func(tx *bolt.Tx) error {
		if tx.Bucket(logBucket) == nil || tx.Bucket(stableBucket) == nil {
			return damaged(errors.New("a bucket is missing"))
		}
		var last uint64
		return tx.Bucket(logBucket).ForEach(func(k, v []byte) error {
			index, err := number(k)
			if err == nil && last != 0 && index != last+1 {
				err = fmt.Errorf("entry %d follows entry %d", index, last)
			}
			if err == nil {
				err = decode(index, v, &raft.Log{})
			}
			if err != nil {
				return damaged(err)
			}
			last = index
			return nil
		})
	})
}

func (s *Store) String() string { return "raft log " + s.path }

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// An Error is an error with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string { return e.Cure }

// ErrDamaged is what cannot be read back as it was written.
var ErrDamaged = errors.New("damaged")

// damaged says that err is in the bytes of the file. A node must not go on
// with a part of its log or without its vote: it could vote twice in a term.
func damaged(err error) error {
	return &Error{
		fmt.Errorf("%w: %w", ErrDamaged, err),
		"check the disk; then remove this node's raft directory and let it join again, its backups are not touched",
	}
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func number(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("a number has %d bytes, want 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
