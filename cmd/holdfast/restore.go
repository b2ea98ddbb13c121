package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
)

// restoreFlags are those of the restore verb; names are those of
// proxmox-backup-client.
type restoreFlags struct {
	place     cli.Place
	key       cli.KeyFlags
	patterns  []string
	tree      tree.ExtractOptions
	keepGoing bool
}

func newRestore(o *cli.Options) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore SNAPSHOT ARCHIVE TARGET|-", Short: "get back a directory, one file of it, an image or a small file", Args: cli.Exactly(3),
		ValidArgsFunction: o.CompleteSnapshots(&f.place),
		Long: `SNAPSHOT is TYPE/ID/TIME, or TYPE/ID for the last one. ARCHIVE is what the backup
called it: root.pxar, disk.img, etc.conf. TARGET is a directory for a .pxar, else a
file or block device; - writes to standard output.

What is there already is not touched unless --overwrite says so. A file whose
content is lost is named, and the rest is restored.`,
		Example: `  holdfast restore host/web root.pxar /tmp/restored
  holdfast restore host/web root.pxar /tmp/restored --path etc/nginx
  holdfast restore host/web root.pxar - --path etc/fstab
  holdfast restore vm/100/2026-11-21T03:00:00Z disk.img /dev/vg/vm-100 --overwrite`,
		RunE: func(cmd *cobra.Command, args []string) error { return restore(o, cmd.Context(), &f, args) },
	}
	f.place.Add(cmd)
	f.key.Add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.tree.Subpath, "path", "", "restore only this path of a directory")
	flags.StringArrayVar(&f.patterns, "pattern", nil, "restore only what matches this pattern")
	flags.BoolVar(&f.tree.Overwrite, "overwrite", false, "replace what is there")
	flags.BoolVar(&f.tree.AllowExistingDirs, "allow-existing-dirs", false, "restore into directories that are there, but replace no file")
	flags.BoolVar(&f.tree.IgnoreOwnership, "ignore-ownership", false, "everything belongs to the user who restores")
	flags.BoolVar(&f.tree.IgnorePermissions, "ignore-permissions", false, "modes are 0755 and 0644")
	flags.BoolVar(&f.tree.IgnoreACLs, "ignore-acls", false, "do not restore access control lists")
	flags.BoolVar(&f.tree.IgnoreXattrs, "ignore-xattrs", false, "do not restore extended attributes and capabilities")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "put zeros into an image where its content is lost, and fail at the end")
	return cmd
}

func restore(o *cli.Options, ctx context.Context, f *restoreFlags, args []string) error {
	patterns, err := match.ParseList(f.patterns)
	if err != nil {
		return cli.Usage(err)
	}
	if len(patterns) > 0 {
		f.tree.Patterns = patterns
	}
	name, target := archive.ServerName(args[1]), args[2]
	isTree := strings.HasSuffix(name, "pxar.didx")
	if !isTree && (f.tree.Subpath != "" || len(patterns) > 0) {
		return cli.Usage(fmt.Errorf("--path and --pattern choose from a directory, and %s is none", args[1]))
	}
	return o.WithSnapshot(ctx, &f.place, &f.key, args[0], func(opt archive.Options, open func(archive.Options) *archive.Snapshot) error {
		opt.Overwrite, opt.KeepGoing = f.tree.Overwrite, f.keepGoing
		m := o.Meter("restore")
		defer m.End()
		opt.Progress = m.Archive
		s := open(opt)
		switch {
		case target == "-" && f.tree.Subpath != "":
			return s.WriteFile(ctx, name, f.tree.Subpath, o.Out)
		case target == "-":
			return s.Stream(ctx, name, o.Out)
		case !isTree:
			began := time.Now()
			if err := s.Save(ctx, name, target); err != nil {
				return err
			}
			m.End()
			return printRestored(o, args[1], target, began)
		}
		began := time.Now()
		report, err := s.RestoreTree(ctx, name, target, f.tree)
		m.End()
		if err != nil && report.Files+report.Directories == 0 {
			return err // nothing was restored: no summary of it
		}
		if lossy := printTree(o, report, target, began); lossy != nil {
			return lossy // it names what err only counts
		}
		return err
	})
}

func printRestored(o *cli.Options, what, target string, began time.Time) error {
	took := time.Since(began)
	return o.Print(map[string]any{"archive": what, "target": target, "seconds": took.Seconds()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is in %s, after %s\n", what, target, took.Round(10*time.Millisecond))
	})
}

// restoreResult is the summary of a restored directory in JSON.
type restoreResult struct {
	Target      string   `json:"target"`
	Files       int64    `json:"files"`
	Directories int64    `json:"directories"`
	Other       int64    `json:"other"`
	Bytes       int64    `json:"bytes"`
	Seconds     float64  `json:"seconds"`
	Warnings    int64    `json:"warnings"`
	List        []string `json:"warning-list,omitempty"`
	Damaged     []string `json:"damaged,omitempty"`
}

func printTree(o *cli.Options, r tree.Report, target string, began time.Time) error {
	took := time.Since(began)
	res := restoreResult{Target: target, Files: r.Files + r.Hardlinks, Directories: r.Directories, Other: r.Symlinks + r.Devices + r.Fifos + r.Sockets,
		Bytes: r.Bytes, Seconds: took.Seconds(), Warnings: r.WarningCount, Damaged: r.Damaged}
	for _, w := range r.Warnings {
		fmt.Fprintf(o.Err, "warning: %s\n", w)
		res.List = append(res.List, w.String())
	}
	err := o.Print(res, func(w io.Writer) {
		fmt.Fprintf(w, "%d files, %d directories and %d others, %s, are in %s, after %s (%s/s)\n", res.Files, res.Directories, res.Other,
			cli.Size(r.Bytes), target, took.Round(10*time.Millisecond), cli.Size(int64(float64(r.Bytes)/max(took.Seconds(), 1e-3))))
	})
	if err == nil && r.DamagedCount > 0 {
		err = cli.Lossy{Count: r.DamagedCount, First: r.Damaged[:min(5, len(r.Damaged))]}
	}
	return err
}
