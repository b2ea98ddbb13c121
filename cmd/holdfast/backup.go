package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
)

// backupFlags are those of the backup verb; names are those of
// proxmox-backup-client.
type backupFlags struct {
	place    cli.Place
	key      cli.KeyFlags
	typ, id  string
	time     int64
	owner    string
	notes    string
	excludes []string
	devices  []string
	allFS    bool
	lost     bool
	max      int
}

// A partialError is a backup that was made, with parts of it left out.
type partialError struct{ count int }

func (e partialError) Error() string { return fmt.Sprintf("%d things could not be backed up", e.count) }
func (e partialError) Hint() string {
	return "the rest is in the snapshot; look at the warnings above, and exclude what is not needed"
}

func newBackup(o *cli.Options) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use: "backup NAME.pxar:DIR|NAME.img:FILE|NAME.conf:FILE…", Short: "make a snapshot of directories, disk images and small files",
		Args: cli.Between(1, 1000),
		Long: `Each source has a name and a kind: root.pxar:/ is a directory with all that is
below it, disk.img:/dev/vg/disk an image or block device, etc.conf:/etc/fstab a
small file. All sources of one call make one snapshot.

What changes, vanishes or cannot be read meanwhile is named, counted, and makes
the exit status 1; everything else is in the snapshot.`,
		Example: `  holdfast backup --repository /srv/store root.pxar:/home etc.conf:/etc/fstab
  holdfast backup --repository /srv/store --backup-type vm --backup-id 100 disk.img:/dev/vg/vm-100`,
		RunE: func(cmd *cobra.Command, args []string) error { return backup(o, cmd.Context(), &f, args) },
	}
	f.place.Add(cmd)
	f.key.AddBackup(cmd)
	host, _ := os.Hostname()
	flags := cmd.Flags()
	flags.StringVar(&f.typ, "backup-type", "host", "vm, ct or host")
	flags.StringVar(&f.id, "backup-id", "", "whose backup it is; default: the name of this machine")
	flags.Int64Var(&f.time, "backup-time", 0, "Unix time of the snapshot in seconds; default: now")
	flags.StringVar(&f.owner, "owner", "root@pam", "who owns the group, if it is new and in a directory")
	flags.StringVar(&f.notes, "notes", "", "notes for the snapshot")
	flags.StringArrayVar(&f.excludes, "exclude", nil, "leave out what matches this pattern, as in .gitignore")
	flags.StringArrayVar(&f.devices, "include-dev", nil, "enter the file system that this path is on")
	flags.BoolVar(&f.allFS, "all-file-systems", false, "enter all file systems mounted below a directory")
	flags.BoolVar(&f.lost, "skip-lost-and-found", false, "leave lost+found out")
	flags.IntVar(&f.max, "entries-max", 0, "most files of one chain of directories; default 1048576")
	f.id = host
	return cmd
}

func backup(o *cli.Options, ctx context.Context, f *backupFlags, args []string) error {
	cfg, err := f.config(o, args)
	if err != nil {
		return err
	}
	return o.WithPlace(ctx, &f.place, func(t cli.Store, ns catalog.Namespace) error {
		w, err := t.Begin(ctx, ns, cfg.Snapshot, f.owner, cfg.Key)
		if err != nil {
			return err
		}
		m := o.Meter("backup")
		cfg.Target, cfg.Progress = w, m.Archive
		man, sum, err := archive.Backup(ctx, cfg)
		m.End()
		if err == nil && f.notes != "" {
			err = man.SetNotes(f.notes)
		}
		if err == nil {
			err = w.Finish(ctx, man)
		}
		if err != nil {
			return errors.Join(err, w.Abort())
		}
		if err := printBackup(o, ns, cfg.Snapshot, &sum); err != nil {
			return err
		}
		if sum.Warnings.Count > 0 {
			return partialError{sum.Warnings.Count}
		}
		return nil
	})
}

// config puts together what is to be backed up.
func (f *backupFlags) config(o *cli.Options, args []string) (cfg archive.Config, err error) {
	for _, arg := range args {
		s, err := archive.ParseSource(arg)
		if err != nil {
			return cfg, cli.Usage(err)
		}
		cfg.Sources = append(cfg.Sources, s)
	}
	host, _ := os.Hostname()
	cfg.Snapshot, err = naming.ParseSnapshot(fmt.Sprintf("%s/%s/%s", f.typ, cmp.Or(f.id, host), naming.FormatTime(cmp.Or(f.time, time.Now().Unix()))))
	if err != nil {
		return cfg, cli.Usage(err)
	}
	for _, text := range f.excludes {
		p, err := match.Parse(text)
		if err != nil {
			return cfg, cli.Usage(err)
		}
		cfg.Tree.Exclude = append(cfg.Tree.Exclude, p)
	}
	for _, path := range f.devices {
		dev, err := tree.Device(path)
		if err != nil {
			return cfg, err
		}
		cfg.Tree.IncludeDevices = append(cfg.Tree.IncludeDevices, dev)
	}
	cfg.Tree.AllFileSystems, cfg.Tree.SkipLostAndFound, cfg.Tree.EntriesMax = f.allFS, f.lost, f.max
	c, err := f.key.ForBackup(o)
	cfg.Key, cfg.KeyFile, cfg.CryptMode, cfg.MasterKey = c.Key, c.File, c.Mode, c.Master
	return cfg, err
}

// backupResult is the summary in JSON.
type backupResult struct {
	Namespace catalog.Namespace `json:"ns,omitempty"`
	Snapshot  string            `json:"snapshot"`
	Archives  []archiveResult   `json:"archives"`
	archiveCounts
	Seconds  float64  `json:"seconds"`
	Warnings int      `json:"warnings"`
	List     []string `json:"warning-list,omitempty"`
}

type archiveResult struct {
	Name string `json:"name"`
	archiveCounts
	Seconds float64 `json:"seconds"`
}

type archiveCounts struct {
	Bytes     int64 `json:"bytes"`     // of content
	New       int64 `json:"new-bytes"` // of that, not held before
	Stored    int64 `json:"stored-bytes"`
	Chunks    int64 `json:"chunks"`
	NewChunks int64 `json:"new-chunks"`
	Entries   int64 `json:"entries,omitempty"`
}

func countsOf(c archive.Counts) archiveCounts {
	return archiveCounts{c.Bytes, c.NewBytes, c.StoredBytes, c.Chunks, c.NewChunks, c.Entries}
}

func printBackup(o *cli.Options, ns catalog.Namespace, s catalog.Snapshot, sum *archive.Summary) error {
	r := backupResult{Namespace: ns, Snapshot: s.String(), Archives: []archiveResult{}, archiveCounts: countsOf(sum.Total),
		Seconds: sum.Duration.Seconds(), Warnings: sum.Warnings.Count, List: sum.Warnings.List}
	for _, a := range sum.Archives {
		r.Archives = append(r.Archives, archiveResult{a.Name, countsOf(a.Counts), a.Duration.Seconds()})
	}
	for _, w := range sum.Warnings.List {
		fmt.Fprintf(o.Err, "warning: %s\n", w)
	}
	return o.Print(r, func(w io.Writer) {
		for _, a := range r.Archives {
			fmt.Fprintf(w, "%-28s %10s, %s new, %s stored%s\n", a.Name, cli.Size(a.Bytes), cli.Size(a.New), cli.Size(a.Stored), entries(a.Entries))
		}
		saved := ""
		if r.Chunks > 0 && r.NewChunks < r.Chunks {
			saved = fmt.Sprintf("; %d of %d chunks were there already", r.Chunks-r.NewChunks, r.Chunks)
		}
		rate := float64(r.Bytes) / max(r.Seconds, 1e-3)
		fmt.Fprintf(w, "snapshot %s: %s, %s new, %s stored in %s (%s/s)%s\n", r.Snapshot, cli.Size(r.Bytes), cli.Size(r.New), cli.Size(r.Stored),
			sum.Duration.Round(10*time.Millisecond), cli.Size(int64(rate)), saved)
	})
}

func entries(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d entries", n)
}
