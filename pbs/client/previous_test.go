package client_test

import (
	"errors"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// What need not be sent is concluded from the last backup only if its index is
// the one in a manifest that the key fits.
func TestOnlyALastBackupThatCanBeTrustedSavesUploads(t *testing.T) {
	const n = 10
	other := chunks.NewKey([chunks.KeySize]byte{8})
	for _, row := range []struct {
		name    string
		change  func(t *testing.T, s *farServer, m *manifest.Manifest) // of the last backup
		key     *chunks.Key
		trusted bool // the manifest is
		uploads int
	}{
		{"as it was", nil, nil, true, 0},
		{"signed with our key", func(t *testing.T, _ *farServer, m *manifest.Manifest) { sign(t, m, key) }, key, true, 0},
		{"signed with another key", func(t *testing.T, _ *farServer, m *manifest.Manifest) { sign(t, m, other) }, key, false, n},
		{"signed, and we have no key", func(t *testing.T, _ *farServer, m *manifest.Manifest) { sign(t, m, other) }, nil, true, 0},
		{"changed after it was signed", func(t *testing.T, _ *farServer, m *manifest.Manifest) {
			sign(t, m, key)
			m.Files[0].Size++
		}, key, false, n},
		{"of another group", func(_ *testing.T, _ *farServer, m *manifest.Manifest) { m.ID = "other" }, nil, false, n},
		{"with another index", func(_ *testing.T, _ *farServer, m *manifest.Manifest) { m.Files[0].Csum[0] ^= 1 }, nil, true, n},
		{"without the index", func(_ *testing.T, s *farServer, _ *manifest.Manifest) { s.files["root.pxar.didx"] = nil }, nil, true, n},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
				x, all := farChunks(t, n, 1000)
				s.hold(t, x, all)
				m, err := manifest.ParseBlob(s.files[manifest.Name])
				if err != nil {
					t.Fatal(err)
				}
				if row.change != nil {
					row.change(t, s, m)
				}
				if s.files[manifest.Name], err = m.Blob(); err != nil {
					t.Fatal(err)
				}
				b, err := c.Begin(t.Context(), "", second, row.key)
				if err != nil {
					t.Fatal(err)
				}
				defer b.Abort()
				if (b.Previous() != nil) != row.trusted {
					t.Errorf("the last manifest is %v", b.Previous())
				}
				sink, err := b.Open(t.Context(), "root.pxar.didx", -1)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(putAll(t.Context(), sink, x, all), sink.Close(t.Context(), x)); err != nil {
					t.Fatal(err)
				}
				if s.uploads != row.uploads || s.appended != n {
					t.Errorf("%d chunks were uploaded and %d appended, want %d and %d", s.uploads, s.appended, row.uploads, n)
				}
			})
		})
	}
}

func sign(t *testing.T, m *manifest.Manifest, key *chunks.Key) {
	t.Helper()
	if err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
}
