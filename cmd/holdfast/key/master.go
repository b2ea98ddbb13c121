package key

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

func newKeyMaster(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "create-master-key", Short: "make a master key: master-private.pem and master-public.pem here", Args: cli.AtMost(0),
		Long: `A master key opens every backup that was made with its public half, also when
the key file of that backup is lost. Put master-private.pem into a safe, and give
master-public.pem to those who make backups (key import-master-pubkey).`,
		RunE: func(*cobra.Command, []string) error {
			for _, name := range []string{"master-private.pem", cli.DefaultMaster} {
				if _, err := os.Lstat(name); err == nil {
					return fmt.Errorf("make master key: %s is here already: %w", name, fs.ErrExist)
				}
			}
			pass, err := o.NewPassphrase()
			if err != nil {
				return err
			}
			key, err := keys.CreateMaster()
			if err != nil {
				return err
			}
			private, err := keys.MarshalMaster(key, pass)
			if err != nil {
				return err
			}
			public, err := keys.MarshalMasterPublic(&key.PublicKey)
			if err != nil {
				return err
			}
			if err := keys.Save("master-private.pem", private, false); err != nil {
				return err
			}
			if err := keys.Save(cli.DefaultMaster, public, false); err != nil {
				return err
			}
			return o.Print(map[string]string{"private": "master-private.pem", "public": cli.DefaultMaster}, func(w io.Writer) {
				fmt.Fprintf(w, "made master-private.pem (put it into a safe) and %s (for whoever makes backups)\n", cli.DefaultMaster)
			})
		},
	}
}

func newKeyImportMaster(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "import-master-pubkey FILE", Short: "use a master key's public half for all encrypted backups of this user", Args: cli.Exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if _, err := keys.ParseMasterPublic(b); err != nil {
				return err
			}
			path, err := o.ConfigFile(cli.DefaultMaster)
			if err != nil {
				return err
			}
			if err := o.SaveKey(path, b, true); err != nil {
				return err
			}
			return o.Print(map[string]string{"public": path}, func(w io.Writer) { fmt.Fprintf(w, "master key's public half is in %s\n", path) })
		},
	}
}

// newKeyRescue turns the key that lies beside a backup into a key file again.
func newKeyRescue(o *cli.Options) *cobra.Command {
	var f kdfFlags
	var master, encrypted string
	cmd := &cobra.Command{
		Use: "import-with-master-key [FILE] --master-keyfile PEM --encrypted-keyfile FILE", Args: cli.AtMost(1),
		Short: "get a lost key back from a backup, with the master key",
		Long: `Restore rsa-encrypted.key from any backup that was made with the lost key:

  holdfast restore SNAPSHOT rsa-encrypted.key rsa-encrypted.key`,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := keyPath(o, args)
			if err != nil {
				return err
			}
			if master == "" || encrypted == "" {
				return cli.Usage(errors.New("--master-keyfile and --encrypted-keyfile are both needed"))
			}
			private, err := loadMaster(o, master)
			if err != nil {
				return err
			}
			blob, err := os.ReadFile(encrypted)
			if err != nil {
				return err
			}
			file, err := keys.DecryptWithMaster(blob, private)
			if err != nil {
				return err
			}
			opt, pass, err := f.options(o)
			if err != nil {
				return err
			}
			locked, err := file.ChangePassphrase(nil, pass, opt)
			if err != nil {
				return err
			}
			if err := o.SaveKey(path, locked.Bytes(), false); err != nil {
				return err
			}
			return o.Print(locked.Show(path), func(w io.Writer) { fmt.Fprintf(w, "key %s is in %s again\n", locked.Fingerprint.Short(), path) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&master, "master-keyfile", "", "the master key's private half")
	cmd.Flags().StringVar(&encrypted, "encrypted-keyfile", "", "rsa-encrypted.key as it was restored")
	return cmd
}

func loadMaster(o *cli.Options, path string) (*rsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return keys.ParseMaster(b, func() ([]byte, error) {
		p, err := o.Secret("HOLDFAST_MASTER_PASSWORD")
		if p != nil || err != nil {
			return p, err
		}
		return o.Ask("Passphrase of " + filepath.Base(path) + ": ")
	})
}
