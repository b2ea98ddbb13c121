package cli

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// KeyFlags are those of every verb that reads or makes encrypted backups.
type KeyFlags struct {
	path string
	fd   int
	mode string // of a backup
	mpub string
}

// Add adds the flags for a key to read with.
func (k *KeyFlags) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.path, "keyfile", "", "the key file; default: encryption-key.json in the user's configuration, if it is there")
	cmd.Flags().IntVar(&k.fd, "keyfd", -1, "read the key file from this file descriptor")
}

// AddBackup adds what only the making of backups needs.
func (k *KeyFlags) AddBackup(cmd *cobra.Command) {
	k.Add(cmd)
	cmd.Flags().StringVar(&k.mode, "crypt-mode", "", "encrypt, sign-only or none; default: encrypt if there is a key")
	cmd.Flags().StringVar(&k.mpub, "master-pubkey-file", "", "add the key to the backup, encrypted for the owner of this master key")
}

// file reads the key file, nil if there is none and none was asked for.
func (k *KeyFlags) file(o *Options) (*keys.File, error) {
	switch {
	case k.path != "" && k.fd >= 0:
		return nil, usageError{errors.New("--keyfile and --keyfd exclude each other")}
	case k.fd >= 0:
		f := os.NewFile(uintptr(k.fd), "keyfd")
		defer f.Close() // it was only read
		return keys.Read(f)
	case k.path != "":
		return keys.Load(k.path)
	}
	path, err := o.ConfigFile(DefaultKey)
	if err != nil {
		return nil, nil // no HOME, no default
	}
	file, err := keys.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return file, err
}

// Key returns the key to read with, nil if there is none.
func (k *KeyFlags) Key(o *Options) (*chunks.Key, error) {
	file, err := k.file(o)
	if file == nil || err != nil {
		return nil, err
	}
	return file.Unlock(o.Prompt("Passphrase of the key: "))
}

// Crypt is how a backup is encrypted.
type Crypt struct {
	Key    *chunks.Key
	File   *keys.File
	Mode   manifest.CryptMode
	Master *rsa.PublicKey
}

// ForBackup returns how the flags want a backup encrypted.
func (k *KeyFlags) ForBackup(o *Options) (c Crypt, err error) {
	c.Mode = manifest.CryptMode(k.mode)
	switch c.Mode {
	case manifest.None:
		if k.path != "" || k.fd >= 0 || k.mpub != "" {
			return c, usageError{errors.New("--crypt-mode none needs no key: leave it out, or choose encrypt")}
		}
		return c, nil
	case "", manifest.Encrypt, manifest.SignOnly:
	default:
		return c, usageError{fmt.Errorf("--crypt-mode is %q, want encrypt, sign-only or none", k.mode)}
	}
	if c.File, err = k.file(o); err != nil {
		return c, err
	}
	if c.File == nil {
		if c.Mode != "" {
			return c, hinted{fmt.Errorf("--crypt-mode %s needs a key", c.Mode), "name the key file with --keyfile, or make one: holdfast key create"}
		}
		return c, nil
	}
	if c.Key, err = c.File.Unlock(o.Prompt("Passphrase of the key: ")); err != nil {
		return c, err
	}
	c.Master, err = k.masterKey(o)
	return c, err
}

// masterKey returns the public half of the master key, if there is one.
func (k *KeyFlags) masterKey(o *Options) (*rsa.PublicKey, error) {
	path := k.mpub
	if path == "" {
		var err error
		if path, err = o.ConfigFile(DefaultMaster); err != nil {
			return nil, nil
		}
	}
	b, err := os.ReadFile(path)
	if k.mpub == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return keys.ParseMasterPublic(b)
}

// KeyFor leaves the key out for a snapshot that was made without one: a user's
// default key is not asked of backups that it has nothing to do with.
func KeyFor(r archive.Origin, key *chunks.Key) *chunks.Key {
	for _, f := range r.Manifest().Files {
		if f.CryptMode == manifest.Encrypt || f.CryptMode == manifest.SignOnly {
			return key
		}
	}
	return nil
}

// ConfigFile is where proxmox-backup-client keeps what belongs to a user.
func (o *Options) ConfigFile(name string) (string, error) {
	dir := o.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		if dir = o.Getenv("HOME"); dir == "" {
			return "", usageError{fmt.Errorf("name the file: there is no HOME to look for %s in", name)}
		}
		dir = filepath.Join(dir, ".config")
	}
	return filepath.Join(dir, "proxmox-backup", name), nil
}

const (
	DefaultKey    = "encryption-key.json"
	DefaultMaster = "master-public.pem"
)

// SaveKey writes a key file, and the directory of the default one.
func (o *Options) SaveKey(path string, content []byte, replace bool) error {
	if def, err := o.ConfigFile(filepath.Base(path)); err == nil && def == path {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	return keys.Save(path, content, replace)
}
