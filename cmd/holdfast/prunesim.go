package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/jobs"
)

// A simulation is a group of backups that were made and pruned by the clock.
type simulation struct {
	backup, prune jobs.Event
	keep          retention.Keep
	until         time.Time
	span          time.Duration
}

// A simulated backup is one that is left in the end.
type simulated struct {
	Time string `json:"backup-time"`
	Unix int64  `json:"unix"`
	Age  int    `json:"age-days"`
	Rule string `json:"rule"` // that kept it when it was looked at last
}

// maxSimulated bounds how many backups are made up: one a minute for half a year.
const maxSimulated = 300_000

// run makes backups and prunes them, each when its time comes, and returns what is
// left, the newest first, how many were made, and how many there were at most.
func (s simulation) run() (left []simulated, made, most int, err error) {
	var have []retention.Backup
	rule := map[int64]string{}
	at := s.until.Add(-s.span)
	nextPrune, prunes := s.prune.Next(at)
	for {
		next, ok := s.backup.Next(at)
		due := ok && !next.After(s.until)
		for prunes && !nextPrune.After(s.until) && (!due || nextPrune.Before(next)) {
			have = s.pruned(have, rule)
			nextPrune, prunes = s.prune.Next(nextPrune)
		}
		if !due {
			break
		}
		if made++; made > maxSimulated {
			return nil, 0, 0, fmt.Errorf("more than %d backups: simulate a shorter time with --days", maxSimulated)
		}
		have = append(have, retention.Backup{Time: next.Unix(), Finished: true})
		most, at = max(most, len(have)), next
	}
	have = s.pruned(have, rule)
	for i := len(have) - 1; i >= 0; i-- {
		t := time.Unix(have[i].Time, 0).In(s.until.Location())
		left = append(left, simulated{t.Format(time.RFC3339), have[i].Time, int(s.until.Sub(t).Hours() / 24), rule[have[i].Time]})
	}
	return left, made, most, nil
}

// pruned returns what a prune leaves, the oldest first, and notes by which rule.
func (s simulation) pruned(have []retention.Backup, rule map[int64]string) (stay []retention.Backup) {
	plan := retention.Plan(have, s.keep, s.until.Location())
	for i := len(plan) - 1; i >= 0; i-- {
		if d := plan[i]; d.Keep() {
			stay = append(stay, d.Backup)
			rule[d.Time] = d.Rule
		}
	}
	return stay
}

func newPruneSimulate(o *cli.Options) *cobra.Command {
	var k keepFlags
	var backup, prune, until string
	var days int
	cmd := &cobra.Command{
		Use: "simulate", Short: "show what rules would keep of backups made by a schedule", Args: cli.NoArgs,
		Long: `Backups are made up at each time of --schedule for --days, and pruned at each time of
--prune-schedule as they would be by a job. What is left at the end is printed, with
the rule that keeps it. No datastore is looked at: what a prune of one would do now
says prune --dry-run.`,
		Example: "  holdfast prune simulate --schedule '*:0' --keep-hourly 24 --keep-daily 7 --keep-weekly 4 --keep-monthly 6",
		RunE: func(*cobra.Command, []string) error {
			s, err := simulationOf(k, backup, prune, until, days)
			if err != nil {
				return cli.Usage(err)
			}
			left, made, most, err := s.run()
			if err != nil {
				return cli.Usage(err)
			}
			return o.Print(map[string]any{"made": made, "most": most, "kept": left}, func(w io.Writer) {
				tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(tab, "backup\tday\tage\trule")
				for _, b := range left {
					fmt.Fprintf(tab, "%s\t%s\t%dd\t%s\n", b.Time, time.Unix(b.Unix, 0).In(s.until.Location()).Format("Mon"), b.Age, b.Rule)
				}
				tab.Flush()
				fmt.Fprintf(w, "%d of %d backups are left after %d days; there were %d at most\n", len(left), made, days, most)
			})
		},
	}
	k.add(cmd)
	cmd.Flags().StringVar(&backup, "schedule", "daily", "when backups are made, as a calendar event")
	cmd.Flags().StringVar(&prune, "prune-schedule", "", "when they are pruned; default: once a day")
	cmd.Flags().StringVar(&until, "until", "", "when the last day ends, as 2026-12-31; default: today")
	cmd.Flags().IntVar(&days, "days", 400, "how many days are simulated")
	return cmd
}

func simulationOf(k keepFlags, backup, prune, until string, days int) (s simulation, err error) {
	if prune == "" {
		prune = "daily"
	}
	if s.backup, err = jobs.ParseEvent(backup); err != nil {
		return s, fmt.Errorf("--schedule: %w", err)
	}
	if s.prune, err = jobs.ParseEvent(prune); err != nil {
		return s, fmt.Errorf("--prune-schedule: %w", err)
	}
	now := time.Now()
	s.until = time.Date(now.Year(), now.Month(), now.Day(), 23, 59, 59, 0, now.Location())
	if until != "" {
		t, err := time.ParseInLocation(time.DateOnly, until, time.Local)
		if err != nil {
			return s, fmt.Errorf("--until: want a day as 2026-12-31")
		}
		s.until = t.Add(24*time.Hour - time.Second)
	}
	if days < 1 || days > 20*366 {
		return s, errors.New("--days: want 1 to 7320")
	}
	s.span, s.keep = time.Duration(days)*24*time.Hour, k.keep
	return s, s.keep.Check()
}
