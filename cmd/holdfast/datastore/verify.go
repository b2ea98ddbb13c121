package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/export"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// A damagedError is a verification that worked, and found something.
type damagedError struct{ snapshots, chunks int }

func (e damagedError) Error() string {
	if e.snapshots == 0 {
		return fmt.Sprintf("%d damaged", e.chunks)
	}
	return fmt.Sprintf("%d snapshots are not whole, for %d damaged or missing chunks", e.snapshots, e.chunks)
}

func (e damagedError) Hint() string {
	return "check the disk; the next backup stores damaged chunks anew, datastore heal takes them from other sites, and --repair-from DIR from another store"
}

// verifyFlags are those of the verb.
type verifyFlags struct {
	place    cli.Place
	key      cli.KeyFlags
	filters  []string
	snapshot string
	rateMiB  int64
	repair   string
	scrub    bool
	opt      verify.Options
	packs    pack.ScrubOptions
}

func newVerify(o *cli.Options) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify [NAME|DIR]", Short: "read backups again and compare them with their names and manifests", Args: cli.OneDir,
		Long: `Every chunk that a snapshot names is read, decoded and compared with its name, once,
and the result is kept with the snapshot: one that was verified is skipped the
next time, unless --ignore-verified=false or --outdated-after says otherwise.
Damaged chunks are denied from then on, so that the next backup stores them anew.

--scrub reads all of the packs instead, whether a snapshot needs them or not, and
compares the sums of the stored bytes, at the speed of the disk; --deep decodes
every chunk as well.

Of a datastore of the node on this machine it starts the task and prints its log,
with --ns, --max-depth, --ignore-verified and --outdated-after; the other flags are
for a store in a directory that no node has open.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name, ok, err := o.Named(cmd.Context(), args); ok || err != nil {
				return byNode(o, cmd, err, "POST", adminPath+"/verify", url.Values{"store": {name}}, "ns", "max-depth", "ignore-verified", "outdated-after")
			}
			dir, err := o.Dir(args)
			if err != nil {
				return err
			}
			if f.scrub || f.packs.Deep || f.packs.Quarantine {
				return scrub(o, cmd.Context(), dir, f.packs)
			}
			return verifySnapshots(o, cmd.Context(), dir, &f)
		},
	}
	f.place.Add(cmd)
	f.key.Add(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.opt.Depth, "max-depth", -1, "levels of namespaces below to verify as well; -1: all")
	flags.StringArrayVar(&f.filters, "group-filter", nil, "only groups like type:vm, group:vm/100, regex:RE; with exclude: before it, all others")
	flags.StringVar(&f.snapshot, "snapshot", "", "only this snapshot")
	flags.BoolVar(&f.opt.IgnoreVerified, "ignore-verified", true, "skip snapshots that were verified already")
	flags.IntVar(&f.opt.OutdatedAfter, "outdated-after", 0, "do not skip those verified more than so many days ago")
	flags.Int64Var(&f.rateMiB, "rate", 0, "MiB read a second at most; 0: no limit")
	flags.StringVar(&f.repair, "repair-from", "", "fetch what is damaged or missing from this store, ours or a PBS's")
	flags.BoolVar(&f.scrub, "scrub", false, "read packs instead of snapshots")
	flags.BoolVar(&f.packs.Deep, "deep", false, "scrub, and decode every chunk and compare it with its name")
	flags.BoolVar(&f.packs.Quarantine, "quarantine", false, "scrub, and deny damaged chunks from now on, so that they are stored again")
	return cmd
}

// verify reads snapshots.
func verifySnapshots(o *cli.Options, ctx context.Context, dir string, f *verifyFlags) error {
	list, err := cli.ListOptions(&f.place, f.opt.Depth, f.filters)
	if err != nil {
		return err
	}
	f.opt.Namespace, f.opt.Filters, f.opt.RateBytes, f.opt.Log = list.Namespace, list.Filters, f.rateMiB<<20, o.Log()
	if f.opt.Key, err = f.key.Key(o); err != nil {
		return err
	}
	return o.WithDatastore(ctx, dir, func(d *catalog.Datastore) error {
		if f.snapshot != "" {
			s, err := cli.Snapshot(ctx, d.Tree, list.Namespace, f.snapshot)
			if err != nil {
				return err
			}
			f.opt.Snapshot, f.opt.IgnoreVerified = &s, false
		}
		m := o.Meter("verify")
		defer m.End()
		f.opt.Progress = func(p verify.Progress) {
			m.Set(p.Bytes, 0, fmt.Sprintf("%d of %d snapshots", p.Snapshots, p.SnapshotsTotal))
		}
		v, err := verify.New(d, f.opt)
		if err != nil {
			return err
		}
		began := time.Now()
		report, err := v.Run(ctx)
		m.End()
		if err != nil {
			return err
		}
		if f.repair != "" && len(report.Lost()) > 0 {
			return repair(o, ctx, v, report, f.repair)
		}
		if err := o.Print(report, func(w io.Writer) { verifiedText(w, report, time.Since(began)) }); err != nil {
			return err
		}
		if report.Failed > 0 {
			return damagedError{report.Failed, report.Damaged + report.Missing}
		}
		return nil
	})
}

// repair fetches what was found to be lost from another store.
func repair(o *cli.Options, ctx context.Context, v *verify.Verifier, found verify.Report, dir string) error {
	return withChunks(o, ctx, dir, func(from chunks.Source) error {
		h, err := v.Heal(ctx, from, found.Lost())
		if err != nil {
			return err
		}
		err = o.Print(h, func(w io.Writer) {
			fmt.Fprintf(w, "%d damaged or missing chunks: %d fetched from %s (%s), %d could not be\n", len(found.Lost()), h.Fetched, h.From, cli.Size(h.Bytes), h.Unhealed)
			verifiedText(w, h.Verified, 0)
		})
		if err == nil && (h.Unhealed > 0 || h.Verified.Failed > 0) {
			err = damagedError{h.Verified.Failed, h.Unhealed}
		}
		return err
	})
}

// withChunks opens the chunks of another store, ours or a PBS's.
func withChunks(o *cli.Options, ctx context.Context, dir string, fn func(chunks.Source) error) error {
	if !export.IsPBS(disk.OS{}, filepath.Clean(dir)) {
		return o.WithStore(ctx, dir, false, func(s *pack.Store) error { return fn(s) })
	}
	p, err := export.OpenPBS(disk.OS{}, filepath.Clean(dir))
	if err != nil {
		return err
	}
	return fn(p.Chunks())
}

func verifiedText(w io.Writer, r verify.Report, took time.Duration) {
	for _, s := range r.Results {
		name := s.Snapshot.String()
		if s.Namespace != "" {
			name = string(s.Namespace) + ":" + name
		}
		switch s.State {
		case verify.Failed:
			fmt.Fprintf(w, "FAILED  %s\n", name)
			for _, e := range s.Errors {
				fmt.Fprintf(w, "        %s\n", e)
			}
		default:
			fmt.Fprintf(w, "%-7s %s\n", s.State, name)
		}
		if s.Unstored != "" {
			fmt.Fprintf(w, "        the result could not be kept: %s\n", s.Unstored)
		}
	}
	rate := ""
	if took > 0 {
		rate = fmt.Sprintf(", %s/s", cli.Size(int64(float64(r.Bytes)/max(took.Seconds(), 1e-3))))
	}
	fmt.Fprintf(w, "snapshots: %d whole, %d not whole, %d in use, %d verified before; read %s, %s%s\n", r.OK, r.Failed, r.Busy, r.Skipped, cli.Count(r.Chunks, "chunk"), cli.Size(r.Bytes), rate)
	if r.Missing > 0 || r.Damaged > 0 {
		fmt.Fprintf(w, "chunks: %d damaged, %d missing\n", r.Damaged, r.Missing)
	}
	if r.SumsOnly > 0 {
		fmt.Fprintf(w, "of %d encrypted chunks only the sums were checked; --keyfile opens them\n", r.SumsOnly)
	}
}

// scrub reads packs.
func scrub(o *cli.Options, ctx context.Context, dir string, opt pack.ScrubOptions) error {
	return o.WithStore(ctx, dir, false, func(s *pack.Store) error {
		began, m := time.Now(), o.Meter("scrub")
		opt.Progress = m.Scrub
		report, err := s.Scrub(ctx, opt)
		m.End()
		if err != nil {
			return err
		}
		err = o.Print(report, func(w io.Writer) { scrubText(w, report, time.Since(began)) })
		if n := len(report.Damaged); n > 0 {
			err = errors.Join(err, damagedError{0, n})
		}
		return err
	})
}

func scrubText(w io.Writer, r pack.ScrubReport, took time.Duration) {
	for _, d := range r.Damaged {
		fmt.Fprintf(w, "damaged: chunk %s, pack %s at %d: %s\n", d.Digest, d.Pack, d.Offset, d.Reason)
	}
	rate := float64(r.Bytes) / max(took.Seconds(), 1e-3)
	fmt.Fprintf(w, "%s in %s, %s, %s/s, %d damaged\n", cli.Count(r.Chunks, "chunk"), cli.Count(r.Packs, "pack"), cli.Size(r.Bytes), cli.Size(int64(rate)), len(r.Damaged))
}
