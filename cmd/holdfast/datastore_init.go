package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

func newInit(o *options) *cobra.Command {
	var packMiB int64
	cmd := &cobra.Command{
		Use: "init DIR", Short: "make an empty store in DIR, for use without a daemon", Args: oneDir,
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := o.dir(args)
			if err != nil {
				return err
			}
			if packMiB < 16 || packMiB > 256 {
				return usageError{fmt.Errorf("--pack-size is %d MiB, want 16 to 256", packMiB)}
			}
			id, err := identity.Init(disk.OS{}, dir, packMiB<<20)
			if err != nil {
				return err
			}
			return o.print(id, func(w io.Writer) { fmt.Fprintf(w, "store %s made in %s\n", id.ID, dir) })
		},
	}
	cmd.Flags().Int64Var(&packMiB, "pack-size", 64, "length in MiB at which packs are sealed, 16 to 256")
	return cmd
}
