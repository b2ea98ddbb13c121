package client

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// catalogIndex lists the trees of a snapshot. It is never compared with the
// last one, as with PBS's client: it is small, and changes all over.
const catalogIndex = "catalog.pcat1.didx"

// lastManifest asks for the manifest of the group's last backup. It is only of
// use if it can be trusted: from it we conclude what need not be sent. That
// there is none is no error.
func (b *Backup) lastManifest() (*manifest.Manifest, error) {
	at, err := wire.Do[*int64](b.session.Context(), b.session, wire.Exchange{
		Doing: "ask for the last backup", Method: "GET", Path: "/previous_backup_time",
	})
	switch {
	case err == nil && at == nil:
		return nil, nil
	case err != nil && !refused(err):
		return nil, err
	}
	// Servers that do not know the question may know the answer.
	file, err := b.fetchPrevious(manifest.Name, chunks.MaxBlob)
	if err != nil {
		return nil, ignoreRefusal(err)
	}
	m, err := manifest.ParseBlob(file)
	if err == nil {
		err = usable(m, b.key)
	}
	if err == nil && m.Snapshot().Group != b.snapshot.Group {
		err = fmt.Errorf("it is of %s", m.Snapshot())
	}
	if err != nil {
		b.c.cfg.Log.Info("last backup is not used: everything is sent", "snapshot", b.snapshot, "err", err)
		return nil, nil
	}
	return m, nil
}

// usable says why a manifest says nothing about a backup made with key. One
// that we have no key for still lists chunks that are named by their content.
func usable(m *manifest.Manifest, key *chunks.Key) error {
	err := m.Check(key)
	if key == nil && errors.Is(err, manifest.ErrMissingKey) {
		return nil
	}
	return err
}

// fetchPrevious downloads a file of the last backup. The server notes that the
// chunks of an index are known to us (PBS protocol notes §3.4).
func (b *Backup) fetchPrevious(name string, limit int64) ([]byte, error) {
	return b.session.Download(b.session.Context(), wire.Exchange{
		Doing: "download " + name + " of the last backup", Method: "GET", Path: "/previous",
		Query: url.Values{"archive-name": {name}},
	}, limit)
}

// know learns which chunks of an archive the server has from the last backup.
// An index that is not what the manifest says is not believed, and then
// everything is sent.
func (b *Backup) know(archive string) error {
	if b.previous == nil || archive == catalogIndex {
		return nil
	}
	f, ok := b.previous.File(archive)
	if !ok || f.CryptMode == manifest.Encrypt && b.key == nil && !b.copy { // no chunk of it will come up
		return nil
	}
	file, err := b.fetchPrevious(archive, chunks.MaxIndex)
	if err != nil {
		return ignoreRefusal(err)
	}
	x, err := chunks.ParseIndex(file)
	if err == nil && (uint64(x.Size()) != f.Size || x.Csum() != f.Csum) {
		err = chunks.ErrBadIndex
	}
	if err != nil {
		b.c.cfg.Log.Warn("last index is not used: everything is sent", "snapshot", b.snapshot, "archive", archive, "err", err)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.copy && b.key != nil && f.CryptMode == manifest.Encrypt && b.previous.Signed() {
		b.last[archive] = x
	}
	for _, d := range x.All() {
		if _, ok := b.held[d]; !ok {
			b.held[d] = nil
		}
	}
	return nil
}

// refused reports whether the server answered, and said no.
func refused(err error) bool {
	var no *APIError
	return errors.As(err, &no)
}

// ignoreRefusal passes over what only costs time.
func ignoreRefusal(err error) error {
	if refused(err) {
		return nil
	}
	return err
}
