package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

func newGroup(o *cli.Options) *cobra.Command {
	return cli.Group("group", "list and look after all backups of one machine",
		newGroupList(o),
		changingGroup(o, "forget GROUP", "remove all snapshots of a group but protected ones", 1, func(cmd *cobra.Command, t cli.Store, ns catalog.Namespace, g catalog.Group, _ []string) (string, error) {
			return fmt.Sprintf("%s is removed", g), t.ForgetGroup(cmd.Context(), ns, g)
		}),
		changingGroup(o, "change-owner GROUP OWNER", "give a group to another user or API token", 2, func(cmd *cobra.Command, t cli.Store, ns catalog.Namespace, g catalog.Group, args []string) (string, error) {
			return fmt.Sprintf("%s belongs to %s", g, args[0]), t.ChangeOwner(cmd.Context(), ns, g, args[0])
		}))
}

func newGroupList(o *cli.Options) *cobra.Command {
	var p cli.Place
	cmd := &cobra.Command{
		Use: "list", Short: "list groups with their last backup", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				list, err := t.Groups(cmd.Context(), ns)
				if err != nil {
					return err
				}
				return o.Print(list, func(w io.Writer) {
					tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(tab, "group\tlast backup\tsnapshots\towner\tnotes")
					for _, g := range list {
						fmt.Fprintf(tab, "%s\t%s\t%d\t%s\t%s\n", g.Group(), time.Unix(g.LastBackup, 0).Format(time.RFC3339), g.Count, g.Owner, g.Comment)
					}
					tab.Flush()
				})
			})
		},
	}
	p.Add(cmd)
	return cmd
}

// changingGroup makes a verb that changes one group.
func changingGroup(o *cli.Options, use, short string, args int, fn func(*cobra.Command, cli.Store, catalog.Namespace, catalog.Group, []string) (string, error)) *cobra.Command {
	var p cli.Place
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := naming.ParseGroup(args[0])
			if err != nil {
				return cli.Usage(err)
			}
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				said, err := fn(cmd, t, ns, g, args[1:])
				if err != nil {
					return err
				}
				return o.Print(map[string]string{"group": g.String()}, func(w io.Writer) { fmt.Fprintln(w, said) })
			})
		},
	}
	p.Add(cmd)
	return cmd
}
