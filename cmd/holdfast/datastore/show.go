package datastore

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// storeInfo is what `datastore show` prints.
type storeInfo struct {
	identity.Identity
	Path      string         `json:"path"`
	Packs     int            `json:"packs"`
	Chunks    int            `json:"chunks"`
	Bytes     int64          `json:"bytes"` // of pack files, holes included
	Condemned int            `json:"condemned"`
	Bad       int            `json:"bad"`
	Abilities pack.Abilities `json:"abilities"`
	Health    pack.Health    `json:"health"`
	Usage     catalog.Usage  `json:"usage"`
	Leases    []gc.Lease     `json:"leases,omitzero"` // nil: not asked for
}

func newShow(o *cli.Options) *cobra.Command {
	var acceptLoss, withLeases bool
	cmd := &cobra.Command{
		Use: "show [NAME|DIR]", Short: "print what a store holds and how it is", Args: cli.OneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name, ok, err := o.Named(cmd.Context(), args); ok || err != nil {
				return showNode(o, cmd.Context(), name, err)
			}
			dir, err := o.Dir(args)
			if err != nil {
				return err
			}
			return o.WithDamaged(cmd.Context(), dir, acceptLoss, func(d *catalog.Datastore) error {
				s := d.Chunks()
				info := storeInfo{
					Identity: d.Local().Identity(), Path: dir, Chunks: s.Len(), Condemned: s.Condemned().Len(),
					Bad: s.Quarantined().Len(), Abilities: s.Abilities(), Health: d.Local().Health(),
				}
				for _, p := range s.Packs() {
					info.Packs++
					info.Bytes += p.Bytes
				}
				if info.Usage, err = d.Usage(cmd.Context()); err != nil {
					return err
				}
				if withLeases {
					info.Leases = append([]gc.Lease{}, d.Collector().Leases()...)
				}
				return o.Print(info, info.text)
			})
		},
	}
	cmd.Flags().BoolVar(&withLeases, "leases", false, "list the backups and restores that were cut short, and how long they keep their chunks")
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "open an incomplete copy of a store with the packs that there are")
	return cmd
}

func (i storeInfo) text(w io.Writer) {
	fmt.Fprintf(w, "store      %s, made %s\n", i.ID, i.Created.Format("2006-01-02 15:04"))
	fmt.Fprintf(w, "holds      %s in %s, %s\n", cli.Count(i.Chunks, "chunk"), cli.Count(i.Packs, "pack"), cli.Size(i.Bytes))
	u := i.Usage
	fmt.Fprintf(w, "backups    %s in %s: %s of content in %s, %.2f times less\n", cli.Count(u.Snapshots, "snapshot"), cli.Count(u.Groups, "group"), cli.Size(u.LogicalBytes), cli.Size(u.StoredBytes), u.Factor)
	fmt.Fprintf(w, "waiting    %d condemned chunks whose space was not given back yet\n", i.Condemned)
	fmt.Fprintf(w, "damaged    %s in quarantine\n", cli.Count(i.Bad, "chunk"))
	space := "by copying"
	switch {
	case i.Abilities.Punch:
		space = "by punching holes"
	case i.Abilities.Clone:
		space = "by sharing blocks"
	}
	fmt.Fprintf(w, "space      comes back %s\n", space)
	h := i.Health
	if !h.Clean && !h.Rebuilt {
		fmt.Fprintf(w, "recovered  the last process did not close the store: %d open packs checked, %s of unfinished entries cut off\n", h.RecoveredPacks, cli.Size(h.CutBytes))
	}
	if h.MendedHeaders > 0 {
		fmt.Fprintf(w, "mended     %d packs had a damaged header, which was written anew; their chunks are there\n", h.MendedHeaders)
	}
	if h.LostEntries > 0 {
		fmt.Fprintf(w, "LOST       %d chunks or more that had been committed are damaged or gone\n", h.LostEntries)
	}
	if h.Rebuilt {
		fmt.Fprintf(w, "rebuilt    the index was made anew: %s\n", cmp.Or(h.RebuildReason, "it was damaged"))
	}
	for _, l := range i.Leases {
		fmt.Fprintf(w, "lease      %s, %s of %q since %s: keeps %s until %s\n", l.ID, l.Kind, l.Owner,
			l.Created.Format("2006-01-02 15:04"), cli.Count(l.Pins, "chunk"), l.Expires.Format("2006-01-02 15:04"))
	}
	if i.Leases != nil && len(i.Leases) == 0 {
		fmt.Fprintln(w, "leases     none")
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"missing", h.MissingPacks}, {"damaged", h.DamagedPacks}, {"foreign", h.ForeignFiles}} {
		for _, name := range list.names {
			fmt.Fprintf(w, "%-10s %s\n", list.what, name)
		}
	}
}
