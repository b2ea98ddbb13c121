package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A name is a datastore of the node on this machine before it is a directory that is
// called so; with ./ in front, or without a node, it is the directory.
func TestANameIsADatastoreFirst(t *testing.T) {
	data, err := os.MkdirTemp("", "hf") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	t.Chdir(t.TempDir())
	for _, name := range []string{"cloud", "usb"} {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	o := &Options{Data: data}
	is := func(names string) {
		t.Helper()
		var got []string
		for _, name := range []string{"cloud", "./cloud", "usb", "other", "/", "host:cloud"} {
			if o.isDirectory(context.Background(), name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != names {
			t.Errorf("directories are %v, want %s", got, names)
		}
	}
	is("cloud ./cloud usb /")
	l, err := net.Listen("unix", filepath.Join(data, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"store":"cloud"},{"store":"main"}]}`)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	is("./cloud usb /")
}

// The local part of a datastore in a bucket is not read alone.
func TestLocalPartOfABucket(t *testing.T) {
	dir := t.TempDir()
	if err := noTier(dir); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "cloud"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cloud", "tier.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hint interface{ Hint() string }
	if err := noTier(dir); err == nil || !asHint(err, &hint) || !strings.Contains(hint.Hint(), "s3://") {
		t.Errorf("%v", err)
	}
}

func asHint(err error, to *interface{ Hint() string }) (ok bool) {
	*to, ok = err.(interface{ Hint() string })
	return ok
}

// What is neither on nor off in a repository is refused.
func TestPathStyle(t *testing.T) {
	for text, want := range map[string]bool{"": true, "1": true, "yes": true, "0": false, "OFF": false} {
		if on, err := parseFlag(text); err != nil || on != want {
			t.Errorf("path-style=%s is %v, %v", text, on, err)
		}
	}
	if _, err := parseFlag("maybe"); err == nil || !strings.Contains(err.Error(), "path-style=1") {
		t.Errorf("%v", err)
	}
}
