package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// A status is what of the node's answer is printed as text.
type status struct {
	Quorum  bool      `json:"quorum"`
	AsOf    time.Time `json:"as_of"`
	Members []struct {
		Name, Site, Role, Version, Why string
		Reachable, Ready               bool
		Sessions, Tasks                int
		Stores                         []struct {
			Store, Maintenance, Error string
			Total, Avail              int64
		}
	} `json:"members"`
}

// NewStatus returns the verb that shows how the mesh is.
func NewStatus(o *cli.Options) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "print how every site is: reachable, ready, space, running work", Args: cli.NoArgs,
		Long: "It fails if a site is not ready.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			for {
				err := printStatus(cmd.Context(), o, c)
				if !watch {
					return err
				}
				if err != nil {
					fmt.Fprintln(o.Err, err)
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "again every two seconds, until interrupted")
	return cmd
}

func printStatus(ctx context.Context, o *cli.Options, c *admin.Client) error {
	var raw json.RawMessage
	if err := daemon.Get(ctx, c, "/holdfast/status", nil, &raw); err != nil {
		return err
	}
	var s status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("%s holdfast/status: %w", http.MethodGet, err)
	}
	if err := o.Print(raw, s.text); err != nil {
		return err
	}
	for _, m := range s.Members {
		if !m.Ready {
			return fmt.Errorf("site %s is not ready: %s", m.Site, m.Why)
		}
	}
	return nil
}

func (s status) text(w io.Writer) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "node\tsite\trole\tready\tversion\tsessions\ttasks")
	for _, m := range s.Members {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%t\t%s\t%d\t%d\n", m.Name, m.Site, m.Role, m.Ready, m.Version, m.Sessions, m.Tasks)
	}
	tab.Flush()
	fmt.Fprintln(tab, "\ndatastore\tnode\tfree\tof\tstate")
	for _, m := range s.Members {
		for _, d := range m.Stores {
			state := d.Error
			if state == "" && d.Maintenance != "" {
				state = "maintenance: " + d.Maintenance
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\n", d.Store, m.Name, cli.Size(d.Avail), cli.Size(d.Total), state)
		}
	}
	tab.Flush()
}
