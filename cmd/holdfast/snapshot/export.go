package snapshot

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/export/plain"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

func newSnapshotExport(o *cli.Options) *cobra.Command {
	var p cli.Place
	var k cli.KeyFlags
	var opt plain.Options
	cmd := &cobra.Command{
		Use: "export SNAPSHOT DIR", Short: "write a snapshot as tar archives and plain files, with checksums", Args: cli.Exactly(2),
		ValidArgsFunction: o.CompleteSnapshots(&p),
		Long: `What is in DIR afterwards is restored with tar and sha256sum, on a machine that has
nothing of ours; RESTORE.txt there says how. Encrypted backups are written in the
open.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.WithSnapshot(cmd.Context(), &p, &k, args[0], func(aopt archive.Options, open func(archive.Options) *archive.Snapshot) error {
				aopt.KeepGoing = opt.KeepGoing
				m := o.Meter("export")
				opt.Progress = func(file string, bytes int64) { m.Set(bytes, 0, file) }
				report, err := plain.Export(cmd.Context(), open(aopt), args[1], opt)
				m.End()
				if err != nil {
					return err
				}
				err = o.Print(report, func(w io.Writer) { exportedText(w, report, args[1]) })
				if err == nil && len(report.Damaged) > 0 {
					err = cli.Lossy{Count: int64(len(report.Damaged)), First: report.Damaged[:min(5, len(report.Damaged))]}
				}
				return err
			})
		},
	}
	p.Add(cmd)
	k.Add(cmd)
	cmd.Flags().BoolVar(&opt.KeepGoing, "keep-going", false, "put zeros where content is lost, and fail at the end")
	return cmd
}

func exportedText(w io.Writer, r plain.Report, dir string) {
	for _, f := range r.Files {
		fmt.Fprintf(w, "%-28s %10s  %s\n", f.Name, cli.Size(f.Size), f.SHA256.Short())
	}
	for name, t := range r.Trees {
		for _, note := range t.Notes {
			fmt.Fprintf(w, "%s: %s\n", name, note)
		}
		if t.Dropped > 0 {
			fmt.Fprintf(w, "%s: %d entries have chattr flags or project IDs, which tar does not keep\n", name, t.Dropped)
		}
	}
	fmt.Fprintf(w, "%s in %s; RESTORE.txt there says how to use them\n", cli.Count(len(r.Files), "file"), dir)
}
