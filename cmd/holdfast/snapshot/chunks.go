package snapshot

import (
	"bufio"
	"encoding/json"
	"fmt"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// listedChunk is one line of snapshot chunks.
type listedChunk struct {
	Archive string        `json:"archive"`
	Offset  int64         `json:"offset"` // in the content
	Size    int64         `json:"size"`   // of content
	Digest  chunks.Digest `json:"digest"`
	Pack    string        `json:"pack,omitempty"` // where it lies; none: it is missing
	Entry   uint32        `json:"entry"`          // its number in the pack
}

func newSnapshotChunks(o *cli.Options) *cobra.Command {
	var p cli.Place
	cmd := &cobra.Command{
		Use: "chunks SNAPSHOT [ARCHIVE]", Short: "list the chunks of a snapshot, and where they lie", Args: cli.Between(1, 2),
		ValidArgsFunction: o.CompleteSnapshots(&p),
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := p.Namespace()
			if err != nil {
				return err
			}
			dir, err := o.Directory()
			if err != nil {
				return err
			}
			return o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error {
				s, err := cli.Snapshot(cmd.Context(), d.Tree, ns, args[0])
				if err != nil {
					return err
				}
				m, err := d.Manifest(ns, s)
				if err != nil {
					return err
				}
				w := bufio.NewWriter(o.Out)
				found := false
				for _, f := range m.Files {
					if !cli.IsIndex(f.Name) || len(args) > 1 && archive.ServerName(args[1]) != f.Name {
						continue
					}
					found = true
					if err := listChunks(o, w, d, ns, s, f.Name); err != nil {
						return err
					}
				}
				if !found && len(args) > 1 {
					return cli.Hint(fmt.Errorf("snapshot %s has no archive %s with chunks", s, args[1]), "its files are listed by: holdfast snapshot files "+s.String())
				}
				return w.Flush()
			})
		},
	}
	p.Add(cmd)
	return cmd
}

// listChunks prints a line, or an object, for every chunk of an archive. There
// may be millions, so none waits for the next.
func listChunks(o *cli.Options, w *bufio.Writer, d *catalog.Datastore, ns catalog.Namespace, s catalog.Snapshot, name string) error {
	x, err := d.ReadIndex(ns, s, name)
	if err != nil {
		return err
	}
	packs := map[uint32]string{}
	for _, p := range d.Chunks().Packs() {
		packs[p.Number] = fmt.Sprintf("%08x-%s", p.Epoch, p.ID)
	}
	enc := json.NewEncoder(w)
	for i, digest := range x.All() {
		start, end := x.Range(i)
		c := listedChunk{Archive: name, Offset: start, Size: end - start, Digest: digest}
		if ref, ok := d.Chunks().Lookup(digest); ok {
			c.Pack, c.Entry = packs[ref.Pack], ref.Entry
		}
		if o.Format != "text" {
			if err := enc.Encode(c); err != nil {
				return err
			}
			continue
		}
		where := "MISSING"
		if c.Pack != "" {
			where = fmt.Sprintf("%s entry %d", c.Pack, c.Entry)
		}
		if _, err := fmt.Fprintf(w, "%s %12d %9d  %s  %s\n", name, c.Offset, c.Size, digest, where); err != nil {
			return err
		}
	}
	return nil
}
