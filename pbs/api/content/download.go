package content

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// stream answers with bytes whose number is not known before, as a real server
// does also where it is. What goes wrong later ends the connection, so that
// nobody takes half a file for a whole one.
func stream(c *rest.Call, write func(w io.Writer) error) (any, error) {
	c.Writer.Header().Set("Content-Type", "application/octet-stream")
	s := &streaming{w: c.Writer}
	err := write(s)
	if err == nil && !s.begun {
		err = s.begin()
	}
	if err == nil {
		return rest.Written, nil
	}
	if !s.begun {
		c.Writer.Header().Del("Content-Type")
		return nil, err
	}
	s.abort()
	return nil, upgrade.SendError(err)
}

// streaming is an answer that begins with its first byte.
type streaming struct {
	w     http.ResponseWriter
	begun bool
}

func (s *streaming) begin() error {
	s.begun = true
	s.w.WriteHeader(http.StatusOK)
	return http.NewResponseController(s.w).Flush()
}

func (s *streaming) Write(p []byte) (int, error) {
	if !s.begun {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	return s.w.Write(p)
}

// abort closes the connection in the middle of the answer.
func (s *streaming) abort() {
	if conn, _, err := http.NewResponseController(s.w).Hijack(); err == nil {
		conn.Close()
	}
}

// download answers with a file as it is stored.
func (a *api) download(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s, file := c.Store(), c.Namespace(), c.Snapshot(), c.Archive("file-name")
	v, err := a.enterGroup(c, store, ns, s.Group, read, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	f, err := v.FS.OpenFile(path.Join(v.dir(s), file), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("File open failed: %s", osError)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return stream(c, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, 0, size))
		return err
	})
}

// open opens a finished snapshot for reading. done must be called.
func (v *view) open(ctx context.Context, s catalog.Snapshot) (*catalog.Reader, error) {
	r, err := v.OpenSnapshot(ctx, v.ns, s)
	if errors.Is(err, catalog.ErrBusy) {
		return nil, v.locked(s, "locked by another operation")
	}
	if err != nil {
		return nil, v.noManifest(s, err)
	}
	return r, nil
}

// clear fails if a file is encrypted, or is not in the snapshot.
func clear(m *manifest.Manifest, file string) error {
	f, ok := m.File(file)
	switch {
	case file == manifest.Name || file == manifest.LogName:
		return nil
	case !ok:
		return refuse("File open failed: %s", osError)
	case f.CryptMode == manifest.Encrypt:
		return refuse("cannot decode '%s' - is encrypted", file)
	}
	return nil
}

// unsigned is a snapshot without what only a key can check: the server has no
// key, and the sums of files and chunks are checked all the same.
type unsigned struct {
	*catalog.Reader
	m *manifest.Manifest
}

func (u unsigned) Manifest() *manifest.Manifest { return u.m }

// plainOf returns a reader of the files of a snapshot that are not encrypted.
func plainOf(r *catalog.Reader) (*archive.Snapshot, error) {
	m := manifest.New(r.Manifest().Snapshot())
	for _, f := range r.Manifest().Files {
		if f.CryptMode == manifest.Encrypt {
			continue
		}
		f.CryptMode = manifest.None
		if err := m.Add(f); err != nil {
			return nil, err
		}
	}
	return archive.Open(unsigned{r, m}, archive.Options{}), nil
}

// downloadDecoded answers with the content of a file that is not encrypted.
func (a *api) downloadDecoded(ctx context.Context, c *rest.Call) (any, error) {
	store, ns, s, file := c.Store(), c.Namespace(), c.Snapshot(), c.Archive("file-name")
	v, err := a.enterGroup(c, store, ns, s.Group, read, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	r, err := v.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := clear(r.Manifest(), file); err != nil {
		return nil, err
	}
	if file == manifest.Name || file == manifest.LogName {
		return decodeBlob(c, r, file)
	}
	snap, err := plainOf(r)
	if err != nil {
		return nil, err
	}
	return stream(c, func(w io.Writer) error { return snap.Stream(ctx, file, w) })
}

// decodeBlob answers with a small file that stands in no manifest.
func decodeBlob(c *rest.Call, r *catalog.Reader, file string) (any, error) {
	b, err := r.Blob(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("File open failed: %s", osError)
	}
	if err != nil {
		return nil, err
	}
	if k, err := b.Kind(); err != nil {
		return nil, err
	} else if k.IsEncrypted() {
		return nil, refuse("cannot decode '%s' - is encrypted", file)
	}
	text, err := b.Decode(nil, nil)
	if err != nil {
		return nil, err
	}
	return stream(c, func(w io.Writer) error { _, err := w.Write(text); return err })
}

var _ archive.Origin = unsigned{}
