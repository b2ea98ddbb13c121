package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.json")
	f := goldenFile(t, "none.json")
	if err := Save(path, f.Bytes(), false); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, f)

	other := goldenFile(t, "none2.json")
	err := Save(path, other.Bytes(), false)
	var hint interface{ Hint() string }
	if !errors.Is(err, fs.ErrExist) || !errors.As(err, &hint) || hint.Hint() == "" {
		t.Errorf("error of a name that is taken is %v", err)
	}
	if err != nil && !strings.HasPrefix(err.Error(), "write key file "+path+": ") {
		t.Errorf("error of a name that is taken is %v", err)
	}
	wantFile(t, path, f)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, other.Bytes(), true); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, other)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// wantFile checks content and mode of a key file.
func wantFile(t *testing.T, path string, want *File) {
	t.Helper()
	got, err := Load(path)
	if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("loaded %v, %v, want %s", got, err, want.Bytes())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v, want -rw-------", info.Mode(), err)
	}
}

// TestSaveDoesNotWriteThroughALink: a link that somebody laid at the path must
// not lead the key elsewhere.
func TestSaveDoesNotWriteThroughALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	f := goldenFile(t, "none.json")
	if err := Save(link, f.Bytes(), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error over a dangling link is %v", err)
	}
	if err := Save(link, f.Bytes(), true); err != nil {
		t.Fatal(err)
	}
	wantFile(t, link, f)
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link's target exists: %v", err)
	}
}

func TestLoadAndSaveNameThePath(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none", "key.json")
	if _, err := Load(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("error of a missing file is %v", err)
	}
	if err := Save(missing, nil, true); !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), dir) != 1 {
		t.Errorf("error of a missing directory is %v", err)
	}
	if err := Save(dir, nil, true); err == nil || !strings.HasPrefix(err.Error(), "write key file "+dir+": ") {
		t.Errorf("error of a directory in the way is %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, MaxFile+10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), large) || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("error of a large file is %v", err)
	}
}
