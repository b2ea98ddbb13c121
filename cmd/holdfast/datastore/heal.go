package datastore

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const healPath = cloudPath + "/heal"

func newHeal(o *cli.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "heal [NAME]", Short: "fetch chunks that are damaged or missing from whichever site has them", Args: cli.OneDir,
		Long: `Every node and datastore that this node may read is asked. Each chunk is checked
before it is stored, the log says where it came from, and the snapshots that lacked
it are verified again. A verification that finds damage starts this by itself, and
it is tried again every day. It fails if something is still missing afterwards.

With --output-format json the result is printed when it ends.`,
		Example: "  holdfast datastore heal main",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, is, err := o.Named(cmd.Context(), args)
			if err != nil {
				return err
			}
			if !is {
				return cli.Usage(errors.New("name a datastore of the node on this machine: one in a directory is healed with datastore verify --repair-from"))
			}
			return heal(o, cmd, name)
		},
	}
	cmd.Flags().Bool("full", false, "look for missing chunks in all snapshots, not in those alone that failed their verification")
	return cmd
}

func heal(o *cli.Options, cmd *cobra.Command, name string) error {
	c := daemon.Client(o)
	defer c.Close()
	params := url.Values{"store": {name}}
	if f := cmd.Flags().Lookup("full"); f.Changed {
		params.Set("full", f.Value.String())
	}
	r, err := daemon.Call(cmd.Context(), c, http.MethodPost, healPath, params)
	if err != nil {
		return err
	}
	if o.Format == "text" {
		return daemon.Watch(cmd.Context(), o, c, r)
	}
	var upid string
	if err := r.Into(&upid); err != nil {
		return err
	}
	ended := daemon.Follow(cmd.Context(), c, upid, o.Err)
	report, err := daemon.Call(cmd.Context(), c, http.MethodGet, healPath, url.Values{"store": {name}})
	if err != nil {
		return errors.Join(ended, err)
	}
	return errors.Join(o.Print(report.Data, func(w io.Writer) { fmt.Fprintf(w, "%s\n", report.Data) }), ended)
}
