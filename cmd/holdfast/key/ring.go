package key

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/keys"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const (
	ring = "/config/encryption-keys"
	one  = ring + "/{id}"
)

// ringVerbs are those about the keys that jobs of this cluster use.
func ringVerbs(o *cli.Options) []*cobra.Command {
	id := []string{"id"}
	return []*cobra.Command{
		daemon.Verb{Use: "list", Short: "list the keys that jobs encrypt and decrypt with", Method: http.MethodGet, Path: ring,
			Flags: []daemon.Flag{{Name: "include-archived", Usage: "also those that encrypt nothing any more", Kind: daemon.Bool}},
			Show:  []string{"id", "fingerprint", "archived-at", "nodes", "jobs", "comment"}}.Command(o),
		newAdd(o),
		daemon.Verb{Use: "share ID", Short: "let more nodes use a key", Method: http.MethodPut, Path: one, Args: id,
			Flags: []daemon.Flag{{Name: "node", Usage: "by name; this node has to be one that may use the key", Kind: daemon.List, Required: true}},
			Done:  "key {id} is shared", Example: "  holdfast key share offsite --node dc"}.Command(o),
		daemon.Verb{Use: "archive ID", Short: "have a key encrypt nothing any more; it still decrypts", Method: http.MethodPost, Path: one, Args: id,
			Fixed: map[string]string{"archived": "true"}, Done: "key {id} is archived"}.Command(o),
		daemon.Verb{Use: "unarchive ID", Short: "let a key encrypt again", Method: http.MethodPost, Path: one, Args: id,
			Fixed: map[string]string{"archived": "false"}, Done: "key {id} may be used again"}.Command(o),
		daemon.Verb{Use: "remove ID", Short: "forget a key that is archived, and that no job names", Method: http.MethodDelete, Path: one, Args: id,
			Done: "key {id} is removed"}.Command(o),
	}
}

// newAdd gives the daemon a key from a file. The file stays: nothing gives a key back.
func newAdd(o *cli.Options) *cobra.Command {
	var file string
	v := daemon.Verb{
		Use: "add ID", Short: "give jobs of this cluster a key to encrypt and decrypt with", Method: http.MethodPost, Path: ring, Args: []string{"id"},
		Flags: []daemon.Flag{
			{Name: "node", Usage: "who may use it, by name; default: this node", Kind: daemon.List},
			{Name: "comment", Usage: "what it is for, in one line"},
		},
		Done: "key {id} may be used; keep its file, or print it (key paperkey): nothing gives the key back",
		Long: `A push job encrypts with it (--active-encryption-key) what goes to a server that is
trusted less; a pull job decrypts with it (--associated-key). The key is sealed to
the nodes that may use it, and no other can open it.`,
		Example: "  holdfast key create offsite.json && holdfast key add offsite --keyfile offsite.json",
	}
	v.Before = func(_ *cobra.Command, params url.Values) error {
		path := file
		if path == "" {
			var err error
			if path, err = o.ConfigFile(cli.DefaultKey); err != nil {
				return err
			}
		}
		f, err := keys.Load(path)
		if err != nil {
			return err
		}
		if f.KDF() != keys.None {
			if f, err = f.ChangePassphrase(o.Prompt("Passphrase of the key: "), nil, keys.Options{KDF: keys.None}); err != nil {
				return err
			}
		}
		params.Set("key", string(f.Bytes()))
		return nil
	}
	cmd := v.Command(o)
	cmd.Flags().StringVar(&file, "keyfile", "", "the key file; default: that of proxmox-backup-client")
	return cmd
}
