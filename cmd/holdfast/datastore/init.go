package datastore

import (
	"fmt"
	"io"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

func newInit(o *cli.Options) *cobra.Command {
	var packMiB int64
	cmd := &cobra.Command{
		Use: "init DIR", Short: "make an empty store in DIR, for use without a daemon", Args: cli.OneDir,
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := o.Dir(args)
			if err != nil {
				return err
			}
			if packMiB < 16 || packMiB > 256 {
				return cli.Usage(fmt.Errorf("--pack-size is %d MiB, want 16 to 256", packMiB))
			}
			id, err := identity.Init(disk.OS{}, dir, packMiB<<20)
			if err != nil {
				return err
			}
			return o.Print(id, func(w io.Writer) { fmt.Fprintf(w, "store %s made in %s\n", id.ID, dir) })
		},
	}
	cmd.Flags().Int64Var(&packMiB, "pack-size", 64, "length in MiB at which packs are sealed, 16 to 256")
	return cmd
}
