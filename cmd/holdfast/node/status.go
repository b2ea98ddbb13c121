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
	Why     string    `json:"why"`
	Leader  string    `json:"leader"`
	Voters  int       `json:"voters"`
	Advice  string    `json:"advice"`
	Alarms  []string  `json:"alarms"`
	Members []struct {
		Name, Site, Role, State, Version, Why, Path string
		Voter, Reachable, Ready                     bool
		RTT                                         float64   `json:"rtt_ms"`
		LastHeard                                   time.Time `json:"last_heard"`
		Sessions, Tasks                             int
		Stores                                      []struct {
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
		if m.Path == "local" && !m.Ready {
			return fmt.Errorf("site %s is not ready: %s", m.Site, m.Why)
		}
	}
	return nil
}

func (s status) text(w io.Writer) {
	fmt.Fprintln(w, s.quorum(time.Now()))
	for _, a := range s.Alarms {
		fmt.Fprintln(w, "alarm: "+a)
	}
	if s.Advice != "" {
		fmt.Fprintln(w, "note: "+s.Advice)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "\nnode\tsite\trole\treached\theard\tversion\tsessions\ttasks\t")
	for _, m := range s.Members {
		role := m.Role
		if m.Voter {
			role += ", votes"
		}
		if m.State != "" && m.State != "active" {
			role += ", " + m.State
		}
		reached := m.Path
		if m.RTT > 0 {
			reached = fmt.Sprintf("%s, %.1f ms", m.Path, m.RTT)
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", m.Name, m.Site, role, reached, ago(m.LastHeard, time.Now()), m.Version, m.Sessions, m.Tasks, m.Why)
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

// quorum says in a line whether anything can be changed now, and how old what
// follows is.
func (s status) quorum(now time.Time) string {
	if s.Quorum {
		return fmt.Sprintf("quorum: yes, %s leads, %d vote; facts of %s", s.Leader, s.Voters, ago(s.AsOf, now))
	}
	return fmt.Sprintf("quorum: NO, nothing can be changed (%s); backups and restores go on; facts of %s", s.Why, ago(s.AsOf, now))
}

// ago is how long it is since a time, for people.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero() || t.Unix() <= 0:
		return "never"
	case d < 10*time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}
