package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
	"github.com/holdfast-mesh/holdfast/pbs/client"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
)

// client returns our own client of the node.
func (h *home) client() *client.Client {
	h.t.Helper()
	var info []struct{ Fingerprint string }
	h.read(h.call("GET", "/nodes/localhost/certificates/info", nil), &info)
	r, err := client.ParseRepository(string(sitetest.Admin) + "!tok@" + h.addr + ":store1")
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := client.New(client.Config{Repository: r, Password: h.secret, Fingerprint: info[0].Fingerprint})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

// A keyed is a backup of a directory, an image and a small file, with a key.
type keyed struct {
	h     *home
	c     *client.Client
	cfg   archive.Config
	files map[string]string // content by name
}

func newKeyed(h *home, at int64) *keyed {
	k := &keyed{h: h, c: h.client(), files: map[string]string{"etc.conf": "key = value\n", "disk.img": strings.Repeat("secret disk ", 400_000)}}
	k.cfg.Snapshot = naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "k"}, Time: at}
	dir := h.t.TempDir()
	root := filepath.Join(dir, "root")
	err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(root, "letter"), []byte("dear all"), 0o600))
	for name, content := range k.files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	for _, spec := range []string{"root.pxar:" + root, "disk.img:" + filepath.Join(dir, "disk.img"), "etc.conf:" + filepath.Join(dir, "etc.conf")} {
		src, e := archive.ParseSource(spec)
		err = errors.Join(err, e)
		k.cfg.Sources = append(k.cfg.Sources, src)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

// backUp makes the backup.
func (k *keyed) backUp(ctx context.Context) {
	k.h.t.Helper()
	b, err := k.c.Begin(ctx, "", k.cfg.Snapshot, k.cfg.Key)
	if err != nil {
		k.h.t.Fatal(err)
	}
	defer b.Abort()
	k.cfg.Target = b
	m, _, err := archive.Backup(ctx, k.cfg)
	if err == nil {
		err = b.Finish(ctx, m)
	}
	if err != nil {
		k.h.t.Fatal(err)
	}
}

// restore reads all of it with a key, and compares.
func (k *keyed) restore(ctx context.Context, key *chunks.Key) error {
	o, err := k.c.OpenSnapshot(ctx, "", k.cfg.Snapshot)
	if err != nil {
		return err
	}
	defer o.Close()
	s := archive.Open(o, archive.Options{Key: key})
	if err := s.Check(); err != nil {
		return err
	}
	conf, err := s.Blob("etc.conf.blob")
	if err == nil && string(conf) != k.files["etc.conf"] {
		err = errors.New("etc.conf has another content")
	}
	var disk bytes.Buffer
	if e := s.Stream(ctx, "disk.img.fidx", &disk); e != nil || disk.String() != k.files["disk.img"] {
		err = errors.Join(err, e, errors.New("disk.img has another content"))
	}
	target := filepath.Join(k.h.t.TempDir(), "out")
	if _, e := s.RestoreTree(ctx, "root.pxar.didx", target, tree.ExtractOptions{IgnoreOwnership: true}); e != nil {
		return errors.Join(err, e)
	}
	if letter, e := os.ReadFile(filepath.Join(target, "letter")); e != nil || string(letter) != "dear all" {
		err = errors.Join(err, e, errors.New("the letter has another content"))
	}
	return err
}

// listing returns the fingerprint and the crypt modes that monitors see.
func (k *keyed) listing() (fingerprint, modes string) {
	k.h.t.Helper()
	var all []struct {
		Time        int64 `json:"backup-time"`
		Fingerprint string
		Files       []struct {
			Filename string
			Mode     string `json:"crypt-mode"`
		}
	}
	k.h.api("GET", admin1+"snapshots?backup-type=host&backup-id=k", &all, k.h.admin())
	for _, s := range all {
		if s.Time == k.cfg.Snapshot.Time {
			for _, f := range s.Files {
				modes += f.Filename + "=" + f.Mode + " "
			}
			return s.Fingerprint, modes
		}
	}
	return "", "not listed"
}

// §12.4, check 12, as far as the server has a part in it: it stores what it
// cannot read, gives it back as it was, and shows which key opens it.
func TestCheck12Encrypted(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	master, err := rsa.GenerateKey(rand.Reader, 2560) // 2048 hold no key file
	if err != nil {
		t.Fatal(err)
	}
	file, err := keys.Create(nil, keys.Options{KDF: keys.None})
	if err != nil {
		t.Fatal(err)
	}
	key, err := file.Unlock(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := chunks.NewKey([chunks.KeySize]byte{9})

	enc := newKeyed(h, 1000)
	enc.cfg.Key, enc.cfg.KeyFile, enc.cfg.MasterKey = key, file, &master.PublicKey
	enc.backUp(t.Context())
	again := newKeyed(h, 2000) // nothing has changed: chunks of the last one are known
	again.cfg.Key = key
	again.backUp(t.Context())
	signed := newKeyed(h, 3000)
	signed.cfg.Key, signed.cfg.CryptMode = key, manifest.SignOnly
	signed.backUp(t.Context())
	h.task("POST", "/admin/datastore/store1/verify", nil)

	for name, tt := range map[string]struct {
		k     *keyed
		modes string
	}{
		"encrypted":   {enc, "root.pxar.didx=encrypt disk.img.fidx=encrypt etc.conf.blob=encrypt catalog.pcat1.didx=encrypt rsa-encrypted.key.blob=encrypt index.json.blob=sign-only "},
		"incremental": {again, "root.pxar.didx=encrypt disk.img.fidx=encrypt etc.conf.blob=encrypt catalog.pcat1.didx=encrypt index.json.blob=sign-only "},
		"signed":      {signed, "root.pxar.didx=sign-only disk.img.fidx=sign-only etc.conf.blob=sign-only catalog.pcat1.didx=sign-only index.json.blob=sign-only "},
	} {
		if err := tt.k.restore(t.Context(), key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tt.k.restore(t.Context(), other); !errors.Is(err, manifest.ErrWrongKey) {
			t.Errorf("%s, another key: %v, want manifest.ErrWrongKey", name, err)
		}
		if err := tt.k.restore(t.Context(), nil); name != "signed" && !errors.Is(err, manifest.ErrMissingKey) {
			t.Errorf("%s, no key: %v, want manifest.ErrMissingKey", name, err)
		}
		if print, modes := tt.k.listing(); print != key.Fingerprint().String() || modes != tt.modes {
			t.Errorf("%s: listed with %s and %q, want %s and %q", name, print, modes, key.Fingerprint(), tt.modes)
		}
	}
	if err := enc.opensWith(t.Context(), func(blob []byte) error {
		f, err := keys.DecryptWithMaster(blob, master)
		if err != nil {
			return err
		}
		found, err := f.Unlock(nil)
		if err == nil && found.Fingerprint() != key.Fingerprint() {
			err = errors.New("it holds another key")
		}
		return err
	}); err != nil {
		t.Errorf("the key for the owner of the master key: %v", err)
	}
}

// opensWith hands the key that lies beside the backup to fn.
func (k *keyed) opensWith(ctx context.Context, fn func([]byte) error) error {
	o, err := k.c.OpenSnapshot(ctx, "", k.cfg.Snapshot)
	if err != nil {
		return err
	}
	defer o.Close()
	blob, err := archive.Open(o, archive.Options{Key: k.cfg.Key}).Blob("rsa-encrypted.key.blob")
	if err != nil {
		return err
	}
	return fn(blob)
}
