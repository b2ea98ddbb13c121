package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A damagedError is a verification that worked, and found something.
type damagedError struct{ found int }

func (e damagedError) Error() string { return fmt.Sprintf("%d damaged", e.found) }

func (e damagedError) Hint() string {
	return "check the disk; with --quarantine the next backup stores damaged chunks again"
}

func newVerify(o *options) *cobra.Command {
	var opt pack.ScrubOptions
	cmd := &cobra.Command{
		Use: "verify [DIR]", Short: "read all of a store and compare it with its sums", Args: oneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := o.dir(args)
			if err != nil {
				return err
			}
			return o.withStore(cmd.Context(), dir, false, func(s *pack.Store) error {
				began, m := time.Now(), o.meter("verify")
				opt.Progress = m.show
				report, err := s.Scrub(cmd.Context(), opt)
				m.end()
				if err != nil {
					return err
				}
				if err := o.print(report, func(w io.Writer) { verifyText(w, report, time.Since(began)) }); err != nil {
					return err
				}
				if n := len(report.Damaged); n > 0 {
					return damagedError{n}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&opt.Deep, "deep", false, "also decode every chunk and compare it with its name")
	cmd.Flags().BoolVar(&opt.Quarantine, "quarantine", false, "deny damaged chunks from now on, so that they are stored again")
	return cmd
}

func verifyText(w io.Writer, r pack.ScrubReport, took time.Duration) {
	for _, d := range r.Damaged {
		fmt.Fprintf(w, "damaged: chunk %s, pack %s at %d: %s\n", d.Digest, d.Pack, d.Offset, d.Reason)
	}
	rate := float64(r.Bytes) / max(took.Seconds(), 1e-3)
	fmt.Fprintf(w, "%d chunks in %d packs, %s, %s/s, %d damaged\n", r.Chunks, r.Packs, size(r.Bytes), size(int64(rate)), len(r.Damaged))
}
