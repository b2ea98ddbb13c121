package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/compare"
)

func newSnapshotDiff(o *cli.Options) *cobra.Command {
	var p cli.Place
	var k cli.KeyFlags
	var opt compare.TreeOptions
	cmd := &cobra.Command{
		Use: "diff SNAPSHOT SNAPSHOT ARCHIVE", Short: "tell what differs between an archive of two snapshots", Args: cli.Exactly(3),
		ValidArgsFunction: o.CompleteSnapshots(&p),
		Long: `Of a directory, it lists what was added (+), removed (-), and what changed in its
content (M), its metadata only (m) or its type (T). Of an image, it lists the
ranges of bytes that differ, to the chunk.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := k.Key(o)
			if err != nil {
				return err
			}
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				var both [2]*archive.Snapshot
				for i := range both {
					s, err := cli.Snapshot(cmd.Context(), t, ns, args[i])
					if err != nil {
						return err
					}
					r, err := t.Open(cmd.Context(), ns, s)
					if err != nil {
						return err
					}
					defer r.Close() // it was only read
					both[i] = archive.Open(r, archive.Options{Key: cli.KeyFor(r, key)})
				}
				name := archive.ServerName(args[2])
				switch {
				case strings.HasSuffix(name, "pxar.didx"):
					return diffTrees(o, cmd.Context(), both, name, opt)
				case cli.IsIndex(name):
					return diffImages(o, both, name)
				}
				return cli.Usage(fmt.Errorf("%s is neither a directory nor an image", args[2]))
			})
		},
	}
	p.Add(cmd)
	k.Add(cmd)
	cmd.Flags().BoolVar(&opt.Deep, "deep", false, "read files as well whose size and time agree")
	return cmd
}

var diffMarks = map[compare.Kind]string{compare.Added: "+", compare.Removed: "-", compare.Content: "M", compare.Metadata: "m", compare.Type: "T"}

func diffTrees(o *cli.Options, ctx context.Context, both [2]*archive.Snapshot, name string, opt compare.TreeOptions) (err error) {
	var trees [2]*archive.Archive
	for i, s := range both {
		if trees[i], err = s.Archive(ctx, name, archive.ReaderOptions{}); err != nil {
			return err
		}
		defer trees[i].Close()
	}
	w := bufio.NewWriter(o.Out)
	enc := json.NewEncoder(w)
	err = compare.Trees(ctx, trees[0].Archive, trees[1].Archive, opt, func(c compare.Change) error {
		if o.Format != "text" {
			return enc.Encode(c)
		}
		slash := ""
		if c.Type == "directory" {
			slash = "/"
		}
		_, err := fmt.Fprintf(w, "%s %s%s\n", diffMarks[c.Kind], quoted(c.Path), slash)
		return err
	})
	return errors.Join(err, w.Flush())
}

// quoted shows a path; one that would confuse a terminal in quotes.
func quoted(path string) string {
	for _, r := range path {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return fmt.Sprintf("%q", path)
		}
	}
	return path
}

func diffImages(o *cli.Options, both [2]*archive.Snapshot, name string) error {
	a, err := both[0].Index(name)
	if err != nil {
		return err
	}
	b, err := both[1].Index(name)
	if err != nil {
		return err
	}
	ranges, err := compare.Images(a, b)
	if err != nil {
		return err
	}
	if ranges == nil {
		ranges = []compare.Range{}
	}
	return o.Print(ranges, func(w io.Writer) {
		total := int64(0)
		for _, r := range ranges {
			fmt.Fprintf(w, "%d-%d\n", r.Start, r.End)
			total += r.End - r.Start
		}
		fmt.Fprintf(w, "%s of %s differ\n", cli.Size(total), cli.Size(max(a.Size(), b.Size())))
	})
}
