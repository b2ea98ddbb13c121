package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// keepFlags are the rules of what is kept.
type keepFlags struct{ keep catalog.Keep }

func (k *keepFlags) add(cmd *cobra.Command) {
	for _, rule := range []struct {
		n    *int
		name string
		what string
	}{
		{&k.keep.Last, "last", "the last N snapshots"}, {&k.keep.Hourly, "hourly", "the last of each of the last N hours"},
		{&k.keep.Daily, "daily", "the last of each of the last N days"}, {&k.keep.Weekly, "weekly", "the last of each of the last N weeks"},
		{&k.keep.Monthly, "monthly", "the last of each of the last N months"}, {&k.keep.Yearly, "yearly", "the last of each of the last N years"},
	} {
		cmd.Flags().IntVar(rule.n, "keep-"+rule.name, 0, "keep "+rule.what+" that have one")
	}
}

func newPrune(o *cli.Options) *cobra.Command {
	var p cli.Place
	var k keepFlags
	var filters []string
	opt := catalog.PruneOptions{}
	cmd := &cobra.Command{
		Use: "prune [GROUP]", Short: "move to the trash what the rules do not keep", Args: cli.AtMost(1),
		Long: `Rules are applied from --keep-last to --keep-yearly; each counts only hours, days,
weeks and so on of which none is kept yet, and keeps the last snapshot of each.
Protected snapshots stay and do not count. Without any rule all is kept. Space
comes back with the garbage collection after the delay of the trash.`,
		Example: "  holdfast prune host/web --keep-daily 7 --keep-weekly 4 --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				filters = append(filters, "group:"+args[0])
			}
			list, err := cli.ListOptions(&p, opt.Depth, filters)
			if err != nil {
				return err
			}
			if err := k.keep.Check(); err != nil {
				return cli.Usage(err)
			}
			opt.Filters, opt.Keep = list.Filters, k.keep
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				opt.Namespace = ns
				plan, err := t.Prune(cmd.Context(), opt)
				if err != nil {
					return err
				}
				return o.Print(plan, func(w io.Writer) { pruneText(w, plan, opt.DryRun) })
			})
		},
	}
	cmd.AddCommand(newPruneSimulate(o))
	p.Add(cmd)
	k.add(cmd)
	cmd.Flags().BoolVar(&opt.DryRun, "dry-run", false, "print what would be done and change nothing")
	cmd.Flags().IntVar(&opt.Depth, "max-depth", -1, "levels of namespaces below to prune as well; -1: all")
	cmd.Flags().StringArrayVar(&filters, "group-filter", nil, "only groups like type:vm, group:vm/100, regex:RE; with exclude: before it, all others")
	return cmd
}

func pruneText(w io.Writer, plan []catalog.Pruned, dry bool) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	gone := 0
	for _, p := range plan {
		what := "keep"
		if !p.Keep {
			what = "remove"
			gone++
		}
		name := p.Snapshot().String()
		if p.Namespace != "" {
			name = string(p.Namespace) + ":" + name
		}
		fmt.Fprintln(tab, strings.TrimSuffix(name+"\t"+what+"\t"+p.Reason, "\t"))
	}
	tab.Flush()
	if dry {
		fmt.Fprintf(w, "%d of %d snapshots would go to the trash (dry run: nothing was changed)\n", gone, len(plan))
		return
	}
	fmt.Fprintf(w, "%d of %d snapshots went to the trash\n", gone, len(plan))
}
