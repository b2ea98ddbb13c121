package daemon

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// Require returns flags of which those named must be given.
func Require(flags []Flag, names ...string) []Flag {
	out := slices.Clone(flags)
	for i := range out {
		out[i].Required = out[i].Required || slices.Contains(names, out[i].Name)
	}
	return out
}

// A Secret is a parameter that is better not on the command line, where every
// list of processes shows it: it may be in a file, or in the environment.
type Secret struct {
	Param string // of the request, and a flag of its own
	What  string // what messages call it
	File  string // the flag that names a file
	Usage string // of that flag
	Env   string // the variable
	Need  bool   // it has to come from somewhere
}

// Command is the command of v with the flag for a file.
func (s Secret) Command(o *cli.Options, v Verb) *cobra.Command {
	var file string
	v.Before = func(_ *cobra.Command, params url.Values) error {
		switch {
		case params.Get(s.Param) != "":
		case file != "":
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read the %s: %w", s.What, err)
			}
			params.Set(s.Param, strings.TrimSpace(string(text)))
		case o.Getenv(s.Env) != "":
			params.Set(s.Param, o.Getenv(s.Env))
		case s.Need:
			return cli.Usage(fmt.Errorf("the %s is missing: --%s, or %s", s.What, s.File, s.Env))
		}
		return nil
	}
	cmd := v.Command(o)
	cmd.Flags().StringVar(&file, s.File, "", s.Usage)
	return cmd
}
