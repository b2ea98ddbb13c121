// Package key has the verbs about keys that encrypt backups.
package key

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/keys"
)

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	cmd := cli.Group("key", "make and look after the keys that encrypt backups",
		newKeyCreate(o), newKeyShow(o), newKeyChange(o), newKeyPaper(o), newKeyMaster(o), newKeyImportMaster(o), newKeyRescue(o))
	cmd.AddCommand(ringVerbs(o)...)
	cmd.Long = `Backups are encrypted on the machine that makes them; no server ever has the
key, but for those that its jobs are given (key add). Whoever loses the key has lost the backups: print it (key paperkey), or make
a master key (key create-master-key) and put its private half into a safe.

Key files are those of proxmox-backup-client. Without a path, the file is the
one that it uses, encryption-key.json in the directory proxmox-backup of the
user's configuration.`
	return cmd
}

// keyPath returns the key file that a verb is about.
func keyPath(o *cli.Options, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	return o.ConfigFile(cli.DefaultKey)
}

// kdfFlags are those of every verb that locks a key.
type kdfFlags struct{ kdf, hint string }

func (f *kdfFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kdf, "kdf", "scrypt", "how the passphrase locks the key: scrypt, pbkdf2, or none for no passphrase")
	cmd.Flags().StringVar(&f.hint, "hint", "", "reminds you of the passphrase; anybody can read it")
}

// options asks for the new passphrase if there is to be one.
func (f *kdfFlags) options(o *cli.Options) (keys.Options, []byte, error) {
	kdf, err := keys.ParseKDF(f.kdf)
	if err != nil {
		return keys.Options{}, nil, cli.Usage(err)
	}
	if kdf == keys.None && f.hint != "" {
		return keys.Options{}, nil, cli.Usage(errors.New("--hint reminds of a passphrase, and --kdf none has none"))
	}
	opt := keys.Options{KDF: kdf, Hint: f.hint}
	if kdf == keys.None {
		return opt, nil, nil
	}
	pass, err := o.NewPassphrase()
	return opt, pass, err
}

func newKeyCreate(o *cli.Options) *cobra.Command {
	var f kdfFlags
	cmd := &cobra.Command{
		Use: "create [FILE]", Short: "make a new key", Args: cli.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := keyPath(o, args)
			if err != nil {
				return err
			}
			opt, pass, err := f.options(o)
			if err != nil {
				return err
			}
			file, err := keys.Create(pass, opt)
			if err != nil {
				return err
			}
			if err := o.SaveKey(path, file.Bytes(), false); err != nil {
				return err
			}
			return o.Print(file.Show(path), func(w io.Writer) {
				fmt.Fprintf(w, "key %s made in %s\n", file.Fingerprint.Short(), path)
				fmt.Fprintf(w, "without it no backup made with it can be read: keep a copy elsewhere (holdfast key paperkey %s)\n", path)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyShow(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "show [FILE]", Short: "describe a key file, without its passphrase", Args: cli.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := keyPath(o, args)
			if err != nil {
				return err
			}
			file, err := keys.Load(path)
			if err != nil {
				return err
			}
			i := file.Show(path)
			return o.Print(i, func(w io.Writer) {
				fmt.Fprintf(w, "path         %s\nkdf          %s\ncreated      %s\nmodified     %s\nfingerprint  %s\n", path, i.KDF,
					time.Unix(i.Created, 0).Format(time.RFC3339), time.Unix(i.Modified, 0).Format(time.RFC3339), i.Fingerprint)
				if i.Hint != "" {
					fmt.Fprintf(w, "hint         %q\n", i.Hint)
				}
			})
		},
	}
}

func newKeyChange(o *cli.Options) *cobra.Command {
	var f kdfFlags
	cmd := &cobra.Command{
		Use: "change-passphrase [FILE]", Short: "lock a key file with another passphrase", Args: cli.AtMost(1),
		Long: "The old passphrase is taken from " + cli.PassphraseVar + " or the terminal, the new one from HOLDFAST_NEW_PASSWORD or the terminal.",
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := keyPath(o, args)
			if err != nil {
				return err
			}
			file, err := keys.Load(path)
			if err != nil {
				return err
			}
			next := *o // the new passphrase has another variable
			next.Getenv = func(name string) string {
				if name == cli.PassphraseVar {
					return o.Getenv("HOLDFAST_NEW_PASSWORD")
				}
				return ""
			}
			opt, pass, err := f.options(&next)
			if err != nil {
				return err
			}
			changed, err := file.ChangePassphrase(o.Prompt("Passphrase of the key: "), pass, opt)
			if err != nil {
				return err
			}
			if err := o.SaveKey(path, changed.Bytes(), true); err != nil {
				return err
			}
			return o.Print(changed.Show(path), func(w io.Writer) { fmt.Fprintf(w, "passphrase of %s changed\n", path) })
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyPaper(o *cli.Options) *cobra.Command {
	var subject, format string
	cmd := &cobra.Command{
		Use: "paperkey [FILE]", Short: "print a key, as text and QR code", Args: cli.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := keyPath(o, args)
			if err != nil {
				return err
			}
			file, err := keys.Load(path)
			if err != nil {
				return err
			}
			paper, err := keys.NewPaper(file, subject)
			if err != nil {
				return err
			}
			switch format {
			case "text":
				return paper.WriteText(o.Out)
			case "html":
				return paper.WriteHTML(o.Out)
			}
			return cli.Usage(fmt.Errorf("--format is %q, want text or html", format))
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "what the key is for, in one line")
	cmd.Flags().StringVar(&format, "format", "text", "text, or html to print from a browser")
	return cmd
}
