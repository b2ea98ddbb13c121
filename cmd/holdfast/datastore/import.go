package datastore

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/export"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// A refusedError is a copy that was made, without some snapshots.
type refusedError struct{ count int }

func (e refusedError) Error() string { return fmt.Sprintf("%d things could not be copied", e.count) }
func (e refusedError) Hint() string {
	return "the reasons are above; what was copied is complete, and the same command again goes on with the rest"
}

// selectFlags say which backups are copied, and where to.
type selectFlags struct {
	from, to string
	filters  []string
}

func (f *selectFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "ns", "", "only this namespace of the source, and those below it")
	cmd.Flags().StringVar(&f.to, "to-ns", "", "put them into this namespace")
	cmd.Flags().StringArrayVar(&f.filters, "group-filter", nil, "only groups like type:vm, group:vm/100, regex:RE; with exclude: before it, all others")
}

func (f *selectFlags) selection() (s export.Selection, err error) {
	list, err := cli.ListOptions(&cli.Place{NS: f.from}, -1, f.filters)
	if err != nil {
		return s, err
	}
	s.From, s.Filters = list.Namespace, list.Filters
	if s.To, err = naming.ParseNamespace(f.to); err != nil {
		return s, cli.Usage(err)
	}
	return s, nil
}

func newImport(o *cli.Options) *cobra.Command {
	var f selectFlags
	var opt export.ImportOptions
	cmd := &cobra.Command{
		Use: "import PBS-DIR [DIR]", Short: "take over the backups of a Proxmox Backup Server's datastore directory", Args: cli.Between(1, 2),
		Long: `Every chunk is checked before it is stored; the source is not written to, and may
be mounted read-only. What cannot be imported is named with the reason, and the
rest is. Interrupted, the same command goes on where it was; repeated, it takes
what is new. Until then, restore, mount and the listing verbs read the PBS's
directory in place: --repository PBS-DIR.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			dir, err := o.Dir(args[1:])
			if err != nil {
				return err
			}
			if opt.Selection, err = f.selection(); err != nil {
				return err
			}
			return o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error {
				m := o.Meter("import")
				opt.Progress = func(p export.Progress) { copied(m, p) }
				report, err := export.ImportPBS(cmd.Context(), d, filepath.Clean(args[0]), opt)
				m.End()
				return printCopied(o, report, err)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&opt.Owner, "owner", "", "who owns groups whose owner cannot be read; default: such groups are refused")
	return cmd
}

func newExport(o *cli.Options) *cobra.Command {
	var f selectFlags
	var opt export.ExportOptions
	layout := "pbs"
	cmd := &cobra.Command{
		Use: "export TARGET-DIR [DIR]", Short: "write backups as a datastore directory of Proxmox Backup Server", Args: cli.Between(1, 2),
		Long: `The target is a new or empty directory, or a PBS datastore, whose backups are kept.
A PBS can use it as it is (proxmox-backup-manager datastore create --reuse-datastore).
Interrupted, the same command goes on where it was; repeated, it adds what is new.
One snapshot as plain tar and image files is written by: holdfast snapshot export.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if layout != "pbs" {
				return cli.Usage(fmt.Errorf("--layout is %q; pbs is the only one", layout))
			}
			dir, err := o.Dir(args[1:])
			if err != nil {
				return err
			}
			if opt.Selection, err = f.selection(); err != nil {
				return err
			}
			return o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error {
				m := o.Meter("export")
				opt.Progress = func(p export.Progress) { copied(m, p) }
				report, err := export.ExportPBS(cmd.Context(), d, filepath.Clean(args[0]), opt)
				m.End()
				return printCopied(o, report, err)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&layout, "layout", layout, "pbs")
	cmd.Flags().BoolVar(&opt.Compare, "compare", false, "read chunks that are there already, and replace those that differ")
	return cmd
}

// copied takes a new state of an import or export.
func copied(m *cli.Meter, p export.Progress) {
	m.Set(p.Bytes, 0, fmt.Sprintf("%d of %d snapshots, %d chunks, %d were there", p.Done, p.Snapshots, p.Chunks, p.Known))
}

// printCopied prints what was copied, also before an error.
func printCopied(o *cli.Options, r export.Report, err error) error {
	printed := o.Print(r, func(w io.Writer) {
		for _, x := range r.Refusals {
			fmt.Fprintf(w, "REFUSED %s: %s\n", x.What, x.Reason)
		}
		fmt.Fprintf(w, "%d snapshots in %d groups copied, %d were there; %d chunks (%s) copied, %d were there\n", r.Snapshots, r.Groups, r.Present, r.Chunks, cli.Size(r.Bytes), r.Known)
		if r.Unfinished+r.Vanished > 0 || r.BadChunks > 0 {
			fmt.Fprintf(w, "left out: %d unfinished snapshots, %d that vanished, %d chunk files set aside as bad\n", r.Unfinished, r.Vanished, r.BadChunks)
		}
	})
	switch {
	case err != nil:
		return err
	case printed != nil:
		return printed
	case r.Refused > 0:
		return refusedError{r.Refused}
	}
	return nil
}
