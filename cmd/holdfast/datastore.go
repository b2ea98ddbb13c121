package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func newDatastore(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use: "datastore", Short: "make, look at and look after stores of chunks", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("datastore has no command %q", args[0])}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newInit(o), newShow(o), newVerify(o), newGC(o))
	return cmd
}

// withStore opens the store in dir for the time of fn.
func (o *options) withStore(ctx context.Context, dir string, acceptLoss bool, fn func(*pack.Store) error) error {
	s, err := pack.Open(ctx, pack.Config{Dir: dir, Log: o.log(), AcceptLoss: acceptLoss})
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// withCollector opens the store in dir and its garbage collector.
func (o *options) withCollector(ctx context.Context, dir string, fn func(*pack.Store, *gc.Collector) error) error {
	return o.withStore(ctx, dir, false, func(s *pack.Store) error {
		c, err := gc.New(gc.Config{
			Store: s, Roots: catalog.Roots{FS: disk.OS{}, Dir: dir}, FS: disk.OS{}, Dir: path.Join(dir, "gc"), Log: o.log(),
		})
		if err != nil {
			return err
		}
		return errors.Join(fn(s, c), c.Close())
	})
}

// log prints what the packages below have to say: warnings, on stderr.
func (o *options) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(o.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
