// Package snapshot has the verbs about snapshots that exist.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	return cli.Group("snapshot", "list, look at and look after backups",
		newSnapshotList(o), newSnapshotFiles(o), newSnapshotShow(o), newSnapshotForget(o), newSnapshotUndo(o),
		newSnapshotProtect(o), newSnapshotProtected(o), newSnapshotNotes(o), newSnapshotDiff(o), newSnapshotChunks(o), newSnapshotExport(o))
}

// changing makes a verb that changes the snapshots it is given.
func changing(o *cli.Options, use, short string, fn func(context.Context, cli.Store, catalog.Namespace, catalog.Snapshot) (string, error)) *cobra.Command {
	var p cli.Place
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.Between(1, 10_000), ValidArgsFunction: o.CompleteSnapshots(&p),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.WithPlace(cmd.Context(), &p, func(t cli.Store, ns catalog.Namespace) error {
				var failed []error
				for _, arg := range args {
					s, err := exactSnapshot(arg)
					if err != nil {
						return err
					}
					said, err := fn(cmd.Context(), t, ns, s)
					if err != nil {
						failed = append(failed, err)
						continue
					}
					if !o.Quiet && o.Format == "text" {
						fmt.Fprintln(o.Out, said)
					}
				}
				return errors.Join(failed...)
			})
		},
	}
	p.Add(cmd)
	return cmd
}

// exactSnapshot reads TYPE/ID/TIME: what changes something is told of which.
func exactSnapshot(arg string) (catalog.Snapshot, error) {
	if strings.Count(arg, "/") == 1 {
		return catalog.Snapshot{}, cli.Usage(fmt.Errorf("%s is a group: name one snapshot, %s/TIME", arg, arg))
	}
	s, err := naming.ParseSnapshot(arg)
	if err != nil {
		return s, cli.Usage(err)
	}
	return s, nil
}

func newSnapshotForget(o *cli.Options) *cobra.Command {
	cmd := changing(o, "forget SNAPSHOT…", "move snapshots to the trash", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) (string, error) {
		err := t.Forget(ctx, ns, s)
		said := fmt.Sprintf("%s is in the trash; until it is emptied: holdfast snapshot undo %s", s, s)
		if strings.Contains(t.String(), "PBS ") { // which may be a real one
			said = fmt.Sprintf("%s is removed; if the server is a Holdfast node, it can be taken back for a while: holdfast snapshot undo %s", s, s)
		}
		return said, err
	})
	cmd.Long = `Forgotten snapshots wait in the trash for a delay (24 hours, if the store says
nothing else), and can be taken back with "snapshot undo". Then the next garbage
collection gives their space back.`
	return cmd
}

func newSnapshotUndo(o *cli.Options) *cobra.Command {
	return changing(o, "undo SNAPSHOT…", "take snapshots back from the trash", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) (string, error) {
		return fmt.Sprintf("%s is back", s), t.Undo(ctx, ns, s)
	})
}

func newSnapshotProtect(o *cli.Options) *cobra.Command {
	var off bool
	cmd := changing(o, "protect SNAPSHOT…", "protect snapshots from removal", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) (string, error) {
		said := fmt.Sprintf("%s is protected", s)
		if off {
			said = fmt.Sprintf("%s is not protected any more", s)
		}
		return said, t.SetProtected(ctx, ns, s, !off)
	})
	cmd.Flags().BoolVar(&off, "off", false, "take the protection away")
	return cmd
}

func newSnapshotProtected(o *cli.Options) *cobra.Command {
	show := reading(o, "show SNAPSHOT", "tell whether a snapshot is protected", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
		on, err := t.Protected(ctx, ns, s)
		if err != nil {
			return err
		}
		return o.Print(on, func(w io.Writer) { fmt.Fprintln(w, on) })
	})
	var p cli.Place
	update := &cobra.Command{
		Use: "update SNAPSHOT true|false", Short: "protect a snapshot, or take the protection away", Args: cli.Exactly(2), ValidArgsFunction: o.CompleteSnapshots(&p),
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := strconv.ParseBool(args[1])
			if err != nil {
				return cli.Usage(fmt.Errorf("protection is %q, want true or false", args[1]))
			}
			return change(o, cmd, &p, args[0], func(t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
				return t.SetProtected(cmd.Context(), ns, s, on)
			})
		},
	}
	p.Add(update)
	return cli.Group("protected", "show and change protection, as proxmox-backup-client does", show, update)
}

// change does something to one snapshot.
func change(o *cli.Options, cmd *cobra.Command, p *cli.Place, arg string, fn func(cli.Store, catalog.Namespace, catalog.Snapshot) error) error {
	s, err := exactSnapshot(arg)
	if err != nil {
		return err
	}
	return o.WithPlace(cmd.Context(), p, func(t cli.Store, ns catalog.Namespace) error { return fn(t, ns, s) })
}

// maxNotes bounds notes that are read from standard input, in bytes.
const maxNotes = 1 << 20

func newSnapshotNotes(o *cli.Options) *cobra.Command {
	show := reading(o, "show SNAPSHOT", "print the notes of a snapshot", func(ctx context.Context, t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
		notes, err := t.Notes(ctx, ns, s)
		if err != nil {
			return err
		}
		return o.Print(notes, func(w io.Writer) { fmt.Fprintln(w, notes) })
	})
	var p cli.Place
	update := &cobra.Command{
		Use: "update SNAPSHOT NOTES|-", Short: "change the notes of a snapshot; - reads them from standard input", Args: cli.Exactly(2), ValidArgsFunction: o.CompleteSnapshots(&p),
		RunE: func(cmd *cobra.Command, args []string) error {
			notes := args[1]
			if notes == "-" {
				b, err := io.ReadAll(io.LimitReader(os.Stdin, maxNotes+1))
				if err != nil {
					return err
				}
				notes = strings.TrimSuffix(string(b), "\n")
			}
			return change(o, cmd, &p, args[0], func(t cli.Store, ns catalog.Namespace, s catalog.Snapshot) error {
				return t.SetNotes(cmd.Context(), ns, s, notes)
			})
		},
	}
	p.Add(update)
	return cli.Group("notes", "show and change the notes of snapshots", show, update)
}
