package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func newNamespace(o *cli.Options) *cobra.Command {
	cmd := cli.Group("namespace", "list, make and remove namespaces", newNamespaceList(o), newNamespaceCreate(o), newNamespaceDelete(o))
	cmd.Long = `Namespaces keep the backups of several owners apart in one store, up to seven
levels deep. STORE:NS names the namespace NS of the store in the directory STORE;
with --repository the namespace alone does.`
	return cmd
}

// split reads STORE[:NS], or NS if there is a --repository.
func split(o *cli.Options, arg string) (dir string, ns catalog.Namespace, err error) {
	text := arg
	if o.Repository == "" {
		dir, text, _ = strings.Cut(arg, ":")
	} else {
		dir, text = o.Repository, strings.TrimPrefix(text, ":")
	}
	if ns, err = naming.ParseNamespace(text); err != nil {
		return "", "", cli.Usage(err)
	}
	dir, err = o.Dir([]string{dir})
	return dir, ns, err
}

func newNamespaceList(o *cli.Options) *cobra.Command {
	depth := -1
	cmd := &cobra.Command{
		Use: "list [STORE[:NS]]", Short: "list a namespace and those below it", Args: cli.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, ns, err := split(o, strings.Join(args, ""))
			if err != nil {
				return err
			}
			t, err := cli.TreeOf(dir)
			if err != nil {
				return err
			}
			all, err := t.Namespaces(cmd.Context(), ns, depth)
			if err != nil {
				return err
			}
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
		},
	}
	cmd.Flags().IntVar(&depth, "max-depth", -1, "levels below; -1: all")
	return cmd
}

func newNamespaceCreate(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "create STORE:NS", Short: "make a namespace; its parent must exist", Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNamespace(o, cmd, args[0], "made", func(d *catalog.Datastore, ns catalog.Namespace) error { return d.CreateNamespace(ns) })
		},
	}
}

func newNamespaceDelete(o *cli.Options) *cobra.Command {
	var groups bool
	cmd := &cobra.Command{
		Use: "delete STORE:NS", Short: "remove a namespace and those below it", Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNamespace(o, cmd, args[0], "removed", func(d *catalog.Datastore, ns catalog.Namespace) error {
				return d.RemoveNamespace(cmd.Context(), ns, groups)
			})
		},
	}
	cmd.Flags().BoolVar(&groups, "delete-groups", false, "move the snapshots in it to the trash; without it, only an empty one is removed")
	return cmd
}

func changeNamespace(o *cli.Options, cmd *cobra.Command, arg, done string, fn func(*catalog.Datastore, catalog.Namespace) error) error {
	dir, ns, err := split(o, arg)
	if err != nil {
		return err
	}
	if ns == "" {
		return cli.Usage(errors.New("which namespace? STORE:NS"))
	}
	err = o.WithDatastore(cmd.Context(), dir, func(d *catalog.Datastore) error { return fn(d, ns) })
	if err != nil {
		return err
	}
	return o.Print(map[string]catalog.Namespace{"ns": ns}, func(w io.Writer) { fmt.Fprintf(w, "namespace %s %s\n", ns, done) })
}
