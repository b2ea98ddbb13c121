package job

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

func newList(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the jobs of this node, with their last and next run", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			list, err := all(cmd.Context(), c, where(cmd))
			if err != nil {
				return err
			}
			if !where(cmd).Has(onNode) {
				if err := addRules(cmd.Context(), c, list); err != nil {
					return err
				}
			}
			shown := make([]map[string]any, len(list))
			for i, f := range list {
				f.fields["kind"] = f.name
				shown[i] = f.fields
			}
			return o.Print(shown, func(w io.Writer) { table(w, list) })
		},
	}
}

// addRules tells jobs which of them are paused, which others share, and which come
// after another.
func addRules(ctx context.Context, c *admin.Client, list []found) error {
	r, err := daemon.Call(ctx, c, http.MethodGet, "/holdfast/jobs", nil)
	if err != nil {
		return err
	}
	var rules []rule
	if err := r.Into(&rules); err != nil {
		return err
	}
	for _, r := range rules {
		for _, f := range list {
			if f.path+":"+f.text("id") == r.Job {
				f.fields["paused"], f.fields["shared"] = r.Paused, r.Shared
				if r.After != "" {
					f.fields["after"] = r.After
				}
			}
		}
	}
	return nil
}

func table(w io.Writer, list []found) {
	if len(list) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "id\tkind\tstore\tfrom\twhen\tlast run\tbehind\tnext run\tcomment")
	for _, f := range list {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.text("id"), f.name, place(f.text("store"), f.text("ns")), f.from(), f.when(), f.last(), f.behind(), moment(f.fields["next-run"]), f.text("comment"))
	}
	tab.Flush()
}

func place(store, ns string) string {
	if ns == "" {
		return store
	}
	return store + ":" + ns
}

// from is where a pull takes its copies, and to where an offload or an export brings
// them.
func (f found) from() string {
	if path := f.text("path"); path != "" {
		return "to " + path
	}
	if to := f.text("to"); to != "" {
		return "to " + place(to, f.text("to-ns"))
	}
	if f.text("remote-store") == "" {
		return "-"
	}
	from := cmp.Or(f.text("remote"), "here")
	if f.name == push.name {
		from = "to " + from
	}
	return from + "/" + place(f.text("remote-store"), f.text("remote-ns"))
}

func (f found) when() string {
	var all []string
	if s := f.text("schedule"); s != "" {
		all = append(all, s)
	}
	if on, _ := f.fields["on-change"].(bool); on {
		all = append(all, "on change")
	}
	if on, _ := f.fields["run-on-mount"].(bool); on {
		all = append(all, "on mount")
	}
	if after := f.text("after"); after != "" {
		all = append(all, "after "+after)
	}
	if off, _ := f.fields["disable"].(bool); off {
		return "disabled"
	}
	if off, _ := f.fields["paused"].(bool); off {
		return "paused"
	}
	if len(all) == 0 {
		return "by hand"
	}
	return strings.Join(all, ", ")
}

func (f found) last() string {
	switch {
	case f.fields["last-run-endtime"] != nil:
		return f.text("last-run-state") + " " + moment(f.fields["last-run-endtime"])
	case f.text("last-run-upid") != "":
		return "runs"
	}
	return "never"
}

// behind is how many snapshots a pull wants that are not here, and how old the
// oldest of them is.
func (f found) behind() string {
	n, known := f.fields["behind"].(float64)
	switch since, _ := f.fields["behind-since"].(float64); {
	case !known:
		return "-"
	case n == 0:
		return "nothing"
	default:
		return fmt.Sprintf("%.0f, %s", n, time.Since(time.Unix(int64(since), 0)).Round(time.Minute))
	}
}

func moment(v any) string {
	n, _ := v.(float64)
	if n == 0 {
		return "-"
	}
	return time.Unix(int64(n), 0).Format("2006-01-02 15:04:05")
}

func newShow(o *cli.Options) *cobra.Command {
	return verb(o, "show ID", "print a job and how it stands", func(_ *cobra.Command, _ *admin.Client, f found) error {
		return daemon.Print(o, admin.Result{Data: f.raw}, nil)
	})
}

// newUpdate takes the flags of all kinds; the node says which of them a job has
// not.
func newUpdate(o *cli.Options) *cobra.Command {
	flags := []daemon.Flag{
		{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
		{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
	}
	for _, k := range kinds {
		for _, f := range k.flags {
			if !slices.ContainsFunc(flags, func(o daemon.Flag) bool { return o.Name == f.Name }) {
				flags = append(flags, f)
			}
		}
	}
	cmd := verb(o, "update ID", "change options of a job", func(cmd *cobra.Command, c *admin.Client, f found) error {
		params, err := daemon.Given(cmd, flags)
		if err != nil {
			return err
		}
		for name := range params {
			if name != "delete" && name != "digest" && !slices.ContainsFunc(f.flags, func(o daemon.Flag) bool { return o.Name == name }) {
				return cli.Usage(fmt.Errorf("%s jobs have no --%s", f.name, name))
			}
		}
		maps.Copy(params, f.args(cmd))
		r, err := daemon.Call(cmd.Context(), c, http.MethodPut, "/config/"+f.path+"/{id}", params)
		if err != nil {
			return err
		}
		return o.Print(r.Data, func(w io.Writer) { fmt.Fprintf(w, "%s job %s is changed\n", f.name, f.text("id")) })
	})
	daemon.AddFlags(cmd, flags)
	return cmd
}

func newRemove(o *cli.Options) *cobra.Command {
	return verb(o, "remove ID", "remove a job; what it copied stays", func(cmd *cobra.Command, c *admin.Client, f found) error {
		r, err := daemon.Call(cmd.Context(), c, http.MethodDelete, "/config/"+f.path+"/{id}", f.args(cmd))
		if err != nil {
			return err
		}
		return o.Print(r.Data, func(w io.Writer) { fmt.Fprintf(w, "%s job %s is removed\n", f.name, f.text("id")) })
	})
}

func newRun(o *cli.Options) *cobra.Command {
	cmd := verb(o, "run ID", "run a job now, and print its log until it ends", func(cmd *cobra.Command, c *admin.Client, f found) error {
		r, err := daemon.Call(cmd.Context(), c, http.MethodPost, "/admin/"+f.path+"/{id}/run", f.args(cmd))
		if err != nil {
			return err
		}
		return daemon.WatchBar(cmd.Context(), o, c, f.text("id"), r)
	})
	cmd.Long = "It fails if the job does. Interrupted, it leaves the job running: `holdfast job stop ID` stops it."
	return cmd
}

func newLog(o *cli.Options) *cobra.Command {
	return verb(o, "log ID", "print the log of the last run of a job; of one that runs, until it ends", func(cmd *cobra.Command, c *admin.Client, f found) error {
		upid := f.text("last-run-upid")
		if upid == "" {
			return &hinted{fmt.Errorf("job %s never ran", f.text("id")), "run it with `holdfast job run " + f.text("id") + "`"}
		}
		return daemon.Follow(cmd.Context(), c, upid, o.Out)
	})
}

func newStop(o *cli.Options) *cobra.Command {
	return verb(o, "stop ID", "stop the run of a job; what it fetched is not fetched again", func(cmd *cobra.Command, c *admin.Client, f found) error {
		upid := f.text("last-run-upid")
		if upid == "" || f.fields["last-run-endtime"] != nil {
			return fmt.Errorf("job %s does not run", f.text("id"))
		}
		r, err := daemon.Call(cmd.Context(), c, http.MethodDelete, "/nodes/localhost/tasks/{upid}", map[string][]string{"upid": {upid}})
		if err != nil {
			return err
		}
		return o.Print(r.Data, func(w io.Writer) { fmt.Fprintf(w, "job %s was asked to stop\n", f.text("id")) })
	})
}
