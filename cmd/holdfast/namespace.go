package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func newNamespace(o *cli.Options) *cobra.Command {
	cmd := cli.Group("namespace", "list, make and remove namespaces", newNamespaceList(o), newNamespaceCreate(o), newNamespaceDelete(o))
	cmd.Long = `Namespaces keep the backups of several owners apart in one store, up to seven
levels deep. STORE:NS names the namespace NS of the datastore STORE, which is one of
the node on this machine or a directory; with --repository the namespace alone does.`
	return cmd
}

// within does fn with the namespace that [STORE:]NS names.
func within(o *cli.Options, ctx context.Context, arg string, fn func(cli.Store, catalog.Namespace) error) error {
	text, here := arg, *o
	if o.Repository == "" {
		here.Repository, text, _ = strings.Cut(arg, ":")
	}
	ns, err := naming.ParseNamespace(strings.TrimPrefix(text, ":"))
	if err != nil {
		return cli.Usage(err)
	}
	return here.WithPlace(ctx, &cli.Place{NS: string(ns)}, fn)
}

func newNamespaceList(o *cli.Options) *cobra.Command {
	depth := -1
	cmd := &cobra.Command{
		Use: "list [STORE[:NS]]", Short: "list a namespace and those below it", Args: cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return within(o, cmd.Context(), strings.Join(args, ""), func(t cli.Store, ns catalog.Namespace) error {
				all, err := t.Namespaces(cmd.Context(), ns, depth)
				if err != nil {
					return err
				}
				slices.Sort(all)
				return printNamespaces(o, all)
			})
		},
	}
	cmd.Flags().IntVar(&depth, "max-depth", -1, "levels below; -1: all")
	return cmd
}

func printNamespaces(o *cli.Options, all []catalog.Namespace) error {
	type item struct {
		NS catalog.Namespace `json:"ns"`
	}
	items := make([]item, len(all))
	for i, n := range all {
		items[i].NS = n
	}
	return o.Print(items, func(w io.Writer) {
		for _, n := range all {
			if n != "" {
				fmt.Fprintln(w, n)
			}
		}
	})
}

func newNamespaceCreate(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "create STORE:NS", Short: "make a namespace; its parent must exist", Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNamespace(o, cmd, args[0], "made", func(t cli.Store, ns catalog.Namespace) error { return t.CreateNamespace(cmd.Context(), ns) })
		},
	}
}

func newNamespaceDelete(o *cli.Options) *cobra.Command {
	var groups bool
	cmd := &cobra.Command{
		Use: "delete STORE:NS", Short: "remove a namespace and those below it", Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNamespace(o, cmd, args[0], "removed", func(t cli.Store, ns catalog.Namespace) error {
				return t.RemoveNamespace(cmd.Context(), ns, groups)
			})
		},
	}
	cmd.Flags().BoolVar(&groups, "delete-groups", false, "move the snapshots in it to the trash; without it, only an empty one is removed")
	return cmd
}

func changeNamespace(o *cli.Options, cmd *cobra.Command, arg, done string, fn func(cli.Store, catalog.Namespace) error) error {
	return within(o, cmd.Context(), arg, func(t cli.Store, ns catalog.Namespace) error {
		if ns == "" {
			return cli.Usage(errors.New("which namespace? STORE:NS"))
		}
		if err := fn(t, ns); err != nil {
			return err
		}
		return o.Print(map[string]catalog.Namespace{"ns": ns}, func(w io.Writer) { fmt.Fprintf(w, "namespace %s %s\n", ns, done) })
	})
}
