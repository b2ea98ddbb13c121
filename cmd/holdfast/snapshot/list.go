package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// reading makes a verb that looks at one snapshot.
func reading(o *cli.Options, use, short string, fn func(context.Context, cli.Store, catalog.Namespace, catalog.Snapshot) error) *cobra.Command {
	var p cli.Place
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly(1), ValidArgsFunction: o.CompleteSnapshots(&p),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				s, err := cli.Snapshot(cmd.Context(), t, ns, args[0])
				if err != nil {
					return err
				}
				return fn(cmd.Context(), t, ns, s)
			})
		},
	}
	p.Add(cmd)
	return cmd
}

func newSnapshotList(o *cli.Options) *cobra.Command {
	var p cli.Place
	var depth int
	var trash bool
	var filters []string
	cmd := &cobra.Command{
		Use: "list [GROUP]", Short: "list snapshots, newest first", Args: cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				filters = append(filters, "group:"+args[0])
			}
			opt, err := cli.ListOptions(&p, depth, filters)
			if err != nil {
				return err
			}
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, _ catalog.Namespace) error {
				if trash {
					return listTrash(o, cmd.Context(), t)
				}
				list, err := t.List(cmd.Context(), opt)
				if err != nil {
					return err
				}
				return printList(o, list)
			})
		},
	}
	p.Add(cmd)
	cmd.Flags().IntVar(&depth, "max-depth", 0, "levels of namespaces below to list as well; -1: all")
	cmd.Flags().BoolVar(&trash, "trash", false, "list what can be taken back instead")
	cmd.Flags().StringArrayVar(&filters, "group-filter", nil, "only groups like type:vm, group:vm/100, regex:RE; with exclude: before it, all others")
	return cmd
}

// printList prints many snapshots quickly: a hundred thousand in a breath.
func printList(o *cli.Options, list []catalog.Info) error {
	if list == nil {
		list = []catalog.Info{}
	}
	if o.Format == "json-pretty" {
		return o.Print(list, nil)
	}
	w := bufio.NewWriterSize(o.Out, 1<<16)
	if o.Format == "json" {
		return writeJSONList(w, list)
	}
	nameWidth, sizeWidth := len("snapshot"), len("size")
	for i := range list {
		nameWidth = max(nameWidth, len(listedName(&list[i])))
	}
	fmt.Fprintf(w, "%-*s  %*s  %-9s  %s\n", nameWidth, "snapshot", sizeWidth+6, "size", "verified", "notes")
	for i := range list {
		s := &list[i]
		what := "unfinished"
		if s.Finished() {
			what = cli.Size(int64(*s.Size))
		}
		verified := "-"
		if s.Verification != nil {
			verified = s.Verification.State
		}
		line := fmt.Sprintf("%-*s  %*s  %-9s  %s", nameWidth, listedName(s), sizeWidth+6, what, verified, marks(s))
		w.WriteString(strings.TrimRight(line, " "))
		w.WriteByte('\n')
	}
	return w.Flush()
}

func writeJSONList(w *bufio.Writer, list []catalog.Info) error {
	var buf []byte
	w.WriteByte('[')
	for i := range list {
		if i > 0 {
			w.WriteByte(',')
		}
		buf = list[i].AppendJSON(buf[:0])
		w.Write(buf)
	}
	w.WriteString("]\n")
	return w.Flush()
}

func listedName(s *catalog.Info) string {
	if s.Namespace == "" {
		return s.Snapshot().String()
	}
	return string(s.Namespace) + ":" + s.Snapshot().String()
}

// marks says what is special about a snapshot, and its notes.
func marks(s *catalog.Info) string {
	var m []string
	if s.Protected {
		m = append(m, "[protected]")
	}
	if s.Fingerprint != "" {
		m = append(m, "[key "+s.Fingerprint[:min(11, len(s.Fingerprint))]+"]")
	}
	if s.Comment != "" {
		m = append(m, s.Comment)
	}
	return strings.Join(m, " ")
}

func listTrash(o *cli.Options, ctx context.Context, t cli.Store) error {
	list, err := t.Trash(ctx) // what is there, also beside an entry that is damaged
	if list == nil {
		list = []catalog.Trashed{}
	}
	return errors.Join(err, o.Print(list, func(w io.Writer) {
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "snapshot\tremoved")
		for _, e := range list {
			name := e.Snapshot.String()
			if e.Namespace != "" {
				name = string(e.Namespace) + ":" + name
			}
			fmt.Fprintf(tab, "%s\t%s\n", name, e.Removed.Local().Format(time.RFC3339))
		}
		tab.Flush()
	}))
}

func newSnapshotFiles(o *cli.Options) *cobra.Command {
	return reading(o, "files SNAPSHOT", "list the archives and blobs of a snapshot", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
		i, err := t.Describe(ctx, ns, s)
		if err != nil {
			return err
		}
		return o.Print(i.Files, func(w io.Writer) {
			tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(tab, "file\tsize\tencryption")
			for _, f := range i.Files {
				n := "-"
				if f.Size != nil {
					n = cli.Size(int64(*f.Size))
				}
				fmt.Fprintf(tab, "%s\t%s\t%s\n", f.Name, n, f.CryptMode)
			}
			tab.Flush()
		})
	})
}

func newSnapshotShow(o *cli.Options) *cobra.Command {
	return reading(o, "show SNAPSHOT", "describe a snapshot", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
		i, err := t.Describe(ctx, ns, s)
		if err != nil {
			return err
		}
		return o.Print(i, func(w io.Writer) { showSnapshot(w, &i) })
	})
}

func showSnapshot(w io.Writer, i *catalog.Info) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-12s "+format+"\n", append([]any{what}, args...)...)
	}
	line("snapshot", "%s", listedName(i))
	line("time", "%s", time.Unix(i.Time, 0).Format(time.RFC1123Z))
	line("owner", "%s", i.Owner)
	if !i.Finished() {
		line("state", "not finished, or its manifest cannot be read")
		return
	}
	line("size", "%s in %d files", cli.Size(int64(*i.Size)), len(i.Files))
	if u := i.Stats; u != nil {
		line("stored", "%s for it alone; of its %d chunks %d were there already", cli.Size(int64(u.CompressedSize)), u.Count, u.Duplicates)
	}
	if i.Fingerprint != "" {
		line("key", "%s", i.Fingerprint)
	}
	if v := i.Verification; v != nil {
		line("verified", "%s", v.State)
	}
	line("protected", "%t", i.Protected)
	if i.Comment != "" {
		line("notes", "%s", i.Comment)
	}
	for _, f := range i.Files {
		n := "-"
		if f.Size != nil {
			n = cli.Size(int64(*f.Size))
		}
		line("file", "%-28s %10s  %s", f.Name, n, f.CryptMode)
	}
}
