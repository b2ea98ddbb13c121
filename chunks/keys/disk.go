package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads the key file at path, whoever else may read it.
func Load(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer r.Close()
	f, err := Read(r)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	return f, nil
}

// Read reads a key file to its end: what --keyfd names.
func Read(r io.Reader) (*File, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return Parse(text)
}

// Save writes a key to path, readable by its owner only (mode 0600), so that
// after a crash there is the old file or the new one, and durable when it
// returns. If there is something at path already and replace is false it fails
// with [fs.ErrExist]: a key that is overwritten takes its backups with it. A
// symbolic link at path is replaced, not followed.
func Save(path string, content []byte, replace bool) error {
	if err := save(path, content, replace); err != nil {
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

func save(path string, content []byte, replace bool) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".key-*.tmp") // mode 0600
	if err != nil {
		return cause(err)
	}
	defer os.Remove(temp.Name()) // fails once it is published, and that is fine
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return cause(err)
	}
	if err := publish(temp.Name(), path, replace); err != nil {
		return err
	}
	return syncDir(dir)
}

// publish gives temp the name path.
func publish(temp, path string, replace bool) error {
	if replace {
		return cause(os.Rename(temp, path))
	}
	// A link fails if the name is taken, which a rename does not. Where the
	// file system has no links, looking first leaves a gap of microseconds.
	err := os.Link(temp, path)
	if err == nil {
		return cause(os.Remove(temp)) // before the directory is synced, or it may come back
	}
	if _, statErr := os.Lstat(path); errors.Is(err, fs.ErrExist) || statErr == nil {
		return errTaken
	}
	return cause(os.Rename(temp, path))
}

// errTaken refuses to overwrite a key.
var errTaken error = taken{&failure{
	"there is a file of that name",
	"choose another name, or move the file away: without its key a backup cannot be read",
}}

type taken struct{ *failure }

func (taken) Is(target error) bool { return target == fs.ErrExist }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return cause(err)
	}
	return cause(errors.Join(d.Sync(), d.Close()))
}

// cause strips the temporary name from err: only path means something.
func cause(err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		return pathErr.Err
	case errors.As(err, &linkErr):
		return linkErr.Err
	}
	return err
}
