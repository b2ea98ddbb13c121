package datastore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/held"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/pbs/api/trash"
)

// A lackingError is a collection that worked, and saw that chunks are missing.
type lackingError struct{ roots int }

func (e lackingError) Error() string {
	return fmt.Sprintf("index files that name chunks that are not here: %d", e.roots)
}

func (e lackingError) Hint() string {
	return "look whether a disk is missing; back up those guests again, or copy the chunks back"
}

func newGC(o *cli.Options) *cobra.Command {
	var opt gc.Options
	var rateMiB int64
	var emptyTrash bool
	cmd := &cobra.Command{
		Use: "gc [NAME|DIR]", Short: "give back the space of chunks that no index file names", Args: cli.OneDir,
		Long: `Of a datastore of the node on this machine it starts the task and prints its log;
the flags but --empty-trash are for a store in a directory that no node has open.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name, ok, err := o.Named(cmd.Context(), args); ok || err != nil {
				if err == nil && emptyTrash && !opt.DryRun {
					return emptyByNode(o, cmd, name)
				}
				return gcByNode(o, cmd, name, err)
			}
			dir, err := o.Dir(args)
			if err != nil {
				return err
			}
			if rateMiB < 0 || rateMiB > 1<<20 {
				return cli.Usage(fmt.Errorf("--rate is %d, want 0 to %d", rateMiB, 1<<20))
			}
			opt.RateBytes = rateMiB << 20
			return o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error {
				if !o.Quiet && o.Format == "text" && o.Terminal {
					opt.Progress = func(p gc.Progress) { fmt.Fprintf(o.Err, "\r\x1b[K%s %d/%d", p.Phase, p.Done, p.Total) }
				}
				var emptied trash.Emptied
				if emptyTrash && !opt.DryRun {
					var err error
					if emptied, err = trash.Of(d.EmptyTrash(cmd.Context(), true)); err != nil {
						return err
					}
					left(o, emptied)
				}
				report, err := d.Collect(cmd.Context(), opt)
				if opt.Progress != nil {
					fmt.Fprint(o.Err, "\r\x1b[K")
				}
				// What was done until an error, or until ctrl-C, is done.
				var all any = report
				if emptyTrash && !opt.DryRun {
					all = struct {
						gc.Report
						Trash trash.Emptied `json:"trash"`
					}{report, emptied}
				}
				printed := o.Print(all, func(w io.Writer) { gcText(w, report, opt.DryRun) })
				if err == nil && report.MissingRoots > 0 {
					err = lackingError{report.MissingRoots}
				}
				return errors.Join(err, printed, kept(emptied))
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&opt.DryRun, "dry-run", false, "print the plan and change nothing")
	flags.BoolVar(&opt.Urgent, "urgent", false, "space is short: free more, at a higher price")
	flags.BoolVar(&emptyTrash, "empty-trash", false, "do not wait for trash-delay: what is in the trash cannot be taken back then; what the guard keeps stays")
	flags.Int64Var(&rateMiB, "rate", 0, "MiB a second freed or copied at most; 0: no limit")
	return cmd
}

// emptyByNode has the node empty the trash of a datastore, and collect its garbage.
func emptyByNode(o *cli.Options, cmd *cobra.Command, name string) error {
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(cmd.Context(), c, "DELETE", cloudPath+"/trash", url.Values{"store": {name}})
	if err != nil {
		return err
	}
	var done struct {
		UPID  string        `json:"upid"`
		Trash trash.Emptied `json:"trash"`
	}
	if err := r.Into(&done.Trash); err != nil {
		return err
	}
	left(o, done.Trash)
	cmd.Flags().Lookup("empty-trash").Changed = false // it is seen to
	if o.Format == "text" {
		return errors.Join(gcByNode(o, cmd, name, nil), kept(done.Trash))
	}
	var upid bytes.Buffer
	inner := *o
	inner.Out = &upid
	err = gcByNode(&inner, cmd, name, nil)
	if err == nil {
		err = errors.Join(json.Unmarshal(upid.Bytes(), &done.UPID), o.Print(done, nil))
	}
	return errors.Join(err, kept(done.Trash))
}

// gcByNode has the node collect the garbage of a datastore.
func gcByNode(o *cli.Options, cmd *cobra.Command, name string, err error) error {
	return byNode(o, cmd, err, "POST", adminPath+"/gc", url.Values{"store": {name}})
}

// left says what is gone.
func left(o *cli.Options, e trash.Emptied) {
	if !o.Quiet {
		fmt.Fprintln(o.Err, cli.Count(e.Removed, "snapshot")+" left the trash for good")
	}
}

// kept is the error that the guard of a datastore keeps something in its trash, nil if
// it does not. The rest is done then.
func kept(e trash.Emptied) error {
	if e.Kept == 0 {
		return nil
	}
	return cli.Hint(errors.New(e.Why), held.Cure)
}

func gcText(w io.Writer, r gc.Report, dry bool) {
	fmt.Fprintf(w, "index files: %d, with %s of content\n", r.IndexFiles, cli.Size(r.IndexBytes))
	for _, m := range r.Missing {
		fmt.Fprintf(w, "MISSING: %s lacks %s\n", m.Root, cli.Count(m.Chunks, "chunk"))
	}
	p := r.Plan
	fmt.Fprintf(w, "live: %s, %s; dead: %s, %s\n", cli.Count(p.LiveChunks, "chunk"), cli.Size(p.LiveBytes), cli.Count(p.DeadChunks, "chunk"), cli.Size(p.DeadBytes))
	methods := map[pack.Method]int{}
	for _, q := range p.Packs {
		methods[q.Method]++
	}
	for m := pack.Keep; m <= pack.Copy; m++ {
		if methods[m] > 0 {
			fmt.Fprintf(w, "  %-8s %s\n", m, cli.Count(methods[m], "pack"))
		}
	}
	if dry {
		fmt.Fprintf(w, "would free %s and copy %s (dry run: nothing was removed)\n", cli.Size(p.FreeBytes), cli.Size(p.CopyBytes))
		return
	}
	fmt.Fprintf(w, "freed %s of %s, copied %s; %s wait for more to die beside them\n",
		cli.Size(r.RemovedBytes), cli.Count(r.RemovedChunks, "chunk"), cli.Size(r.CopiedBytes), cli.Size(r.PendingBytes))
}
