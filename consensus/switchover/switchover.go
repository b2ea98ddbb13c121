// Package switchover puts the files of a group away and others in their place, so that a
// crash at any point leaves the ones or the others, and never none: a node without a
// ledger knows no accounts and no datastores.
//
// The files are in raft/. What is to come is made in raft.next.tmp/ and is raft.next/ when
// it is complete and on the disk: from then on it counts. [Finish] moves raft/ to
// raft.orphan-LABEL/ and raft.next/ to raft/, now or after a crash.
package switchover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	now     = "raft"
	next    = "raft.next"
	half    = "raft.next.tmp"
	label   = "label" // in raft.next: under which raft is put away
	orphans = "raft.orphan-"
)

// Prepare has write make the files that come in the place of those of now, in an empty
// directory, and makes them durable. [Finish] has to follow.
func Prepare(dir, as string, write func(dir string) error) error {
	tmp := filepath.Join(dir, half)
	err := os.RemoveAll(tmp)
	if err == nil {
		err = os.Mkdir(tmp, 0o700)
	}
	if err == nil {
		err = write(tmp)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, label), []byte(as), 0o600)
	}
	if err == nil {
		err = syncAll(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, next))
	}
	if err == nil {
		err = sync(dir)
	}
	if err != nil {
		return fmt.Errorf("prepare what comes in the place of %s: %w", filepath.Join(dir, now), errors.Join(err, os.RemoveAll(tmp)))
	}
	return nil
}

// Finish puts in place what [Prepare] has made, if that is complete, and removes it if not.
// The files of now have to be closed.
func Finish(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, half)); err != nil {
		return err
	}
	as, err := os.ReadFile(filepath.Join(dir, next, label))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = PutAway(dir, string(as))
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, next), filepath.Join(dir, now))
	}
	if err == nil {
		err = errors.Join(os.Remove(filepath.Join(dir, now, label)), sync(dir))
	}
	if err != nil {
		return fmt.Errorf("put %s in its place: %w", filepath.Join(dir, next), err)
	}
	return nil
}

// PutAway moves the files of now, if there are any. What was put away under the same label
// before stays.
func PutAway(dir, as string) error {
	to := filepath.Join(dir, orphans+as)
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		}
		to = filepath.Join(dir, fmt.Sprintf("%s%s.%d", orphans, as, n))
	}
	err := os.Rename(filepath.Join(dir, now), to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was done before a crash
	}
	return errors.Join(err, sync(dir))
}

// syncAll makes all files and directories below a directory durable.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, sync(path))
	})
}

func sync(path string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
