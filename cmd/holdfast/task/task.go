// Package task has the verbs about tasks: what runs on the node, and what ran.
package task

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/s3"
)

const tasksPath = "/nodes/localhost/tasks"

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	return cli.Group("task", "look at tasks and stop them", newList(o), newShow(o), newLog(o), newStop(o))
}

func newList(o *cli.Options) *cobra.Command {
	v := daemon.Verb{Use: "list", Short: "list tasks that run, newest first; with --all those that have ended too", Method: http.MethodGet, Path: tasksPath,
		Show: []string{"starttime", "endtime", "worker_type", "worker_id", "user", "status", "upid"},
		Flags: []daemon.Flag{
			{Name: "limit", Usage: "at most so many; default 50, 0: all", Kind: daemon.Int},
			{Name: "start", Usage: "leave so many of the newest out", Kind: daemon.Int},
			{Name: "errors", Usage: "those that failed", Kind: daemon.Bool},
			{Name: "store", Usage: "those about a datastore"},
			{Name: "typefilter", Usage: "those with this in their type: backup, prune, verify, garbage_collection"},
			{Name: "userfilter", Usage: "those of users with this in their name"},
			{Name: "since", Usage: "begun then or later, Unix time in seconds", Kind: daemon.Int},
			{Name: "until", Usage: "begun then or earlier, Unix time in seconds", Kind: daemon.Int},
		},
		Before: func(cmd *cobra.Command, params url.Values) error {
			all, err := cmd.Flags().GetBool("all")
			if !all && !params.Has("errors") {
				params.Set("running", "1")
			}
			return err
		}}
	cmd := v.Command(o)
	cmd.Flags().Bool("all", false, "those that have ended too")
	return cmd
}

func newLog(o *cli.Options) *cobra.Command {
	follow := true
	cmd := &cobra.Command{
		Use: "log UPID", Short: "print the log of a task; of one that runs, until it ends", Args: cli.Exactly(1),
		Long: "It fails if the task failed. In JSON it is what there is by now, with the numbers\nof the lines.",
		Example: `  holdfast task log "$(holdfast task list --all --output-format json | jq -r '.[0].upid')"
  holdfast task log --follow=false UPID:home:…`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			if follow && o.Format == "text" {
				return daemon.Follow(cmd.Context(), c, args[0], o.Out)
			}
			lines, err := daemon.Log(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return o.Print(lines, func(w io.Writer) {
				for _, l := range lines {
					fmt.Fprintln(w, l.Text)
				}
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", true, "go on until the task ends; --follow=false: what there is by now, with times")
	return cmd
}

func newShow(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "show UPID", Short: "print how a task stands or has ended, and what it asked of a bucket", Args: cli.Exactly(1),
		Example: `  holdfast task show "$(holdfast task list --all --output-format json | jq -r '.[0].upid')"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			all := map[string]any{}
			if err := daemon.Get(cmd.Context(), c, tasksPath+"/{upid}/status", url.Values{"upid": args}, &all); err != nil {
				return err
			}
			var runs []usage.Run
			if err := daemon.Get(cmd.Context(), c, "/holdfast/s3/runs", url.Values{"upid": args}, &runs); err != nil {
				return err
			}
			all["s3-runs"] = runs
			return o.Print(all, func(w io.Writer) {
				tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, name := range slices.Sorted(maps.Keys(all)) {
					if name != "s3-runs" {
						fmt.Fprintf(tab, "%s\t%v\n", name, all[name])
					}
				}
				tab.Flush()
				if len(runs) > 0 {
					s3.PrintRuns(w, runs)
				}
			})
		},
	}
}

func newStop(o *cli.Options) *cobra.Command {
	v := daemon.Verb{Use: "stop UPID", Short: "stop a task", Method: http.MethodDelete, Path: tasksPath + "/{upid}", Args: []string{"upid"}, Done: "the task was asked to stop"}
	return v.Command(o)
}
