package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan writes the manual pages, from the text of the help.
func newMan(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write the manual pages into a directory", Args: cli.Exactly(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			date := time.Unix(0, 0).UTC() // the same pages from the same source
			root := cmd.Root()
			root.DisableAutoGenTag = true
			err := doc.GenManTree(root, &doc.GenManHeader{Title: "HOLDFAST", Section: "1", Source: "Holdfast " + version, Date: &date}, args[0])
			if err != nil {
				return err
			}
			return o.Print(map[string]string{"directory": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "manual pages are in %s: man -l %s/holdfast.1\n", args[0], args[0]) })
		},
	}
}
