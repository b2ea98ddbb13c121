package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/spf13/cobra"
)

func newVersion(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print which version this is", Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{version, runtime.Version()}
			return o.Print(v, func(w io.Writer) { fmt.Fprintf(w, "holdfast %s (%s)\n", v.Version, v.Go) })
		},
	}
}
