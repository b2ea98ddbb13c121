package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/mount"
)

func newMount(o *cli.Options) *cobra.Command {
	var p cli.Place
	var k cli.KeyFlags
	var opt mount.Options
	cmd := &cobra.Command{
		Use: "mount SNAPSHOT [ARCHIVE] DIR", Short: "show a snapshot or one archive as files, read only, until ctrl-C", Args: cli.Between(2, 3),
		ValidArgsFunction: o.CompleteSnapshots(&p),
		Long: `A directory appears as it was; an image as one file, NAME.img, that losetup -r and
mount take. Nothing is copied: what is read is fetched and checked at that moment.
The mount ends with ctrl-C, SIGTERM, or fusermount3 -u DIR.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.WithSnapshot(cmd.Context(), &p, &k, args[0], func(aopt archive.Options, open func(archive.Options) *archive.Snapshot) error {
				return mountSnapshot(o, cmd.Context(), open(aopt), args[1:len(args)-1], args[len(args)-1], opt)
			})
		},
	}
	p.Add(cmd)
	k.Add(cmd)
	cmd.Flags().BoolVar(&opt.AllowOther, "allow-other", false, "let other users look at it as well")
	return cmd
}

// mount shows the archive that is named, or all there are.
func mountSnapshot(o *cli.Options, ctx context.Context, s *archive.Snapshot, names []string, dir string, opt mount.Options) (err error) {
	// What is mounted is read until the kernel lets go of it, also when ctx
	// has ended.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	c := mount.Content{Time: time.Unix(s.Manifest().Time, 0)}
	if len(names) == 1 {
		c.Flat = strings.HasSuffix(archive.ServerName(names[0]), "pxar.didx")
	} else {
		for _, f := range s.Manifest().Files {
			if strings.HasSuffix(f.Name, ".pxar.didx") || strings.HasSuffix(f.Name, ".mpxar.didx") || strings.HasSuffix(f.Name, ".fidx") {
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		part, closer, err := mountPart(reading, s, archive.ServerName(name))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closer.Close()) }()
		c.Parts = append(c.Parts, part)
	}
	opt.Log = o.Log()
	opt.Ready = func() {
		if !o.Quiet {
			fmt.Fprintf(o.Err, "%s is in %s until ctrl-C\n", s.Manifest().Snapshot(), dir)
		}
	}
	return mount.Mount(ctx, dir, c, opt)
}

// mountPart opens one archive for the mount.
func mountPart(ctx context.Context, s *archive.Snapshot, name string) (mount.Part, io.Closer, error) {
	shown := strings.TrimSuffix(strings.TrimSuffix(name, ".didx"), ".fidx")
	if strings.HasSuffix(name, "pxar.didx") {
		a, err := s.Archive(ctx, name, archive.ReaderOptions{})
		if err != nil {
			return mount.Part{}, nil, err
		}
		return mount.Part{Name: shown, Archive: a.Archive}, a, nil
	}
	if !cli.IsIndex(name) {
		return mount.Part{}, nil, cli.Usage(fmt.Errorf("%s is neither a directory nor an image", shown))
	}
	r, err := s.Reader(ctx, name, archive.ReaderOptions{})
	if err != nil {
		return mount.Part{}, nil, err
	}
	return mount.Part{Name: shown, File: r, Size: r.Size()}, r, nil
}
