package statefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ReadSecret returns the content of a file of at most limit bytes that nobody
// but its owner may read.
func ReadSecret(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, &Error{
			fmt.Errorf("%s can be read or written by others (mode %#o)", path, mode),
			"run: chmod 600 " + path + "; if others could read it, change the secrets in it too",
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

// WriteSecret makes data the content of path: after a crash it is the old
// file or the new one. placed tells, if there is an error, whether the new one
// is in place all the same, but might not survive.
func WriteSecret(path string, data []byte, replace bool) (placed bool, err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, tempPrefix(path)+"*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(temp.Name()) // fails once it has its name, and that is fine
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return false, err
	}
	put := os.Rename
	if !replace {
		put = os.Link // fails if the name is taken, which a rename does not
	}
	if err := put(temp.Name(), path); err != nil {
		return false, err
	}
	return true, syncDir(dir)
}

// Place gives a file that WriteSecret has made another name in its directory, for
// who had to do something with it first.
func Place(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
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

func tempPrefix(path string) string { return "." + filepath.Base(path) + ".tmp-" }

// RemoveTemps removes what crashes left of WriteSecret.
func RemoveTemps(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix(path)) {
			if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// An Error is an error of a file with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the cure.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.Cure }
