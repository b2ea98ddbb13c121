package datastore

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

// createFlags go to the node as they are.
var createFlags = []daemon.Flag{
	{Name: "comment", Usage: "what it is for, in one line"},
	{Name: "gc-schedule", Usage: "when garbage is collected, as a calendar event: daily, 'sat 04:00'"},
	{Name: "verify-new", Usage: "verify each backup when it is finished", Kind: daemon.Bool},
	{Name: "backing-device", Usage: "the UUID of the file system of a removable disk, on which the path lies: see lsblk -f"},
	{Name: "reuse-datastore", Usage: "take a directory, or a bucket, that has a store already, with what is in it", Kind: daemon.Bool},
}

// cloudFlags say what is above the directory.
type cloudFlags struct {
	s3, bucket, prefix, cacheDir, cacheSize, after, recovery, lock, confirm string
	encrypt, readOnly, singleWriter, takeOver                               bool
	override                                                                []string
}

func (f *cloudFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.s3, "s3", "", "the home is a bucket of this S3 endpoint: see holdfast s3 endpoint create")
	flags.StringVar(&f.bucket, "bucket", "", "the bucket")
	flags.StringVar(&f.prefix, "prefix", "", "in front of all keys, so that several datastores share a bucket")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "where copies of chunks are kept; without --path, the whole local part lies there")
	flags.StringVar(&f.cacheSize, "cache-size", "64GiB", "bytes that the copies take at most, from 64MiB on; 0: none are kept, each read asks the bucket")
	flags.StringVar(&f.after, "offload-after", "7d", "how old backups are when they leave the disk: 0, 7d, 28d; docs/cloud.md explains the bill")
	flags.StringVar(&f.lock, "object-lock", "", "nobody can delete an object for so long: "+lockWords)
	flags.StringVar(&f.confirm, "confirm-compliance", "", confirmWords)
	flags.BoolVar(&f.encrypt, "encrypt", false, "encrypt everything in the bucket")
	flags.BoolVar(&f.readOnly, "read-only", false, "with --reuse: only read a bucket that another node owns")
	flags.BoolVar(&f.singleWriter, "single-writer", false, "use a store that cannot keep two writers apart: you answer for there being one")
	flags.BoolVar(&f.takeOver, "take-over", false, "with --reuse: take the bucket from a node that is gone for good")
	flags.StringSliceVar(&f.override, "override", nil, "checks of the doctor that you answer for, by name, though they are critical: lifecycle,public; see holdfast s3 endpoint check")
	flags.StringVar(&f.recovery, "recovery-key", "", "file with the recovery key; to make a new store: where it is written, default is to print it")
	flags.Bool("reuse", false, "the same as --reuse-datastore")
}

const (
	lockWords    = "off, governance:60d, or compliance:60d, which neither you nor the provider can undo"
	confirmWords = "the name of the datastore, typed again: with --object-lock compliance:DAYS"
)

var errUndoable = errors.New("a lock in compliance mode cannot be undone by anybody: type the name of the datastore again, with --confirm-compliance NAME")

// errNoPath says what a datastore needs.
var errNoPath = errors.New("--path is missing")

// params puts together what the node is asked for, and the recovery key if one
// was made.
func (f *cloudFlags) params(params url.Values, path string) (made string, err error) {
	reuse := params.Get("reuse-datastore") == "true"
	if f.s3 == "" {
		if f.bucket != "" || f.cacheDir != "" || f.encrypt || f.lock != "" || f.readOnly || f.takeOver || f.override != nil {
			return "", cli.Usage(errors.New("--bucket and its kin go with --s3"))
		}
		if path == "" {
			return "", cli.Usage(errNoPath)
		}
		return "", setPath(params, path)
	}
	switch {
	case f.bucket == "":
		return "", cli.Usage(errors.New("--bucket is missing"))
	case path == "" && f.cacheDir == "":
		return "", cli.Usage(errors.New("--cache-dir is missing: new backups land there"))
	case !reuse && (f.readOnly || f.takeOver):
		return "", cli.Usage(errors.New("--read-only and --take-over are about a store that is there: give --reuse"))
	case strings.ContainsRune(f.bucket+f.prefix+f.cacheDir, ','):
		return "", cli.Usage(errors.New("names of buckets, prefixes and directories must not have a comma"))
	}
	backend := []string{"type=s3", "client=" + f.s3, "bucket=" + f.bucket, "max-cache-size=" + f.cacheSize, "offload-after=" + f.after}
	if f.prefix != "" {
		backend = append(backend, "prefix="+f.prefix)
	}
	if path == "" {
		path = f.cacheDir
	} else if f.cacheDir != "" {
		dir, err := filepath.Abs(f.cacheDir)
		if err != nil {
			return "", err
		}
		backend = append(backend, "cache-dir="+dir)
	}
	if f.lock != "" {
		if p, err := lock.Parse(f.lock); err != nil {
			return "", cli.Usage(err)
		} else if p.Mode == lock.Compliance && f.confirm == "" {
			return "", cli.Usage(errUndoable)
		}
		if f.confirm != "" {
			params.Set("confirm-compliance", f.confirm)
		}
		backend = append(backend, "object-lock="+f.lock)
	}
	for name, on := range map[string]bool{"read-only": f.readOnly, "single-writer": f.singleWriter} {
		if on {
			backend = append(backend, name+"=1")
		}
	}
	params.Set("backend", strings.Join(backend, ","))
	if f.encrypt {
		params.Set("encrypt", "1")
	}
	if f.takeOver {
		params.Set("overwrite-in-use", "1")
	}
	if err := knownChecks(f.override); err != nil {
		return "", err
	}
	for _, name := range f.override {
		params.Add("override", name)
	}
	if made, err = f.key(params, reuse); err != nil {
		return "", err
	}
	return made, setPath(params, path)
}

// knownChecks says which of them the doctor does not make.
func knownChecks(override []string) error {
	for _, name := range override {
		if !slices.Contains(doctor.Names(), name) {
			return cli.Usage(fmt.Errorf("--override %s: there is no such check; there are %s", name, strings.Join(doctor.Names(), ", ")))
		}
	}
	return nil
}

func setPath(params url.Values, path string) error {
	path, err := filepath.Abs(path)
	params.Set("path", path)
	return err
}

// key reads the recovery key of a store that is there, or makes that of a new one. A
// file that has a key already, of an attempt that failed or of another store, is
// what the new store gets as well.
func (f *cloudFlags) key(params url.Values, reuse bool) (made string, err error) {
	if reuse {
		if f.recovery == "" {
			return "", nil
		}
		text, err := os.ReadFile(f.recovery)
		params.Set("recovery-key", strings.TrimSpace(string(text)))
		return "", err
	}
	id, err := seal.NewIdentity()
	if err != nil {
		return "", err
	}
	if f.recovery != "" {
		out, err := os.OpenFile(f.recovery, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return f.known(params)
		}
		if err != nil {
			return "", fmt.Errorf("write the recovery key: %w", err)
		}
		_, err = fmt.Fprintln(out, id)
		if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
			return "", err
		}
	}
	params.Set("recovery-key", id.String())
	return id.String(), nil
}

// known reads a recovery key that is there.
func (f *cloudFlags) known(params url.Values) (string, error) {
	text, err := os.ReadFile(f.recovery)
	if err != nil {
		return "", fmt.Errorf("read the recovery key: %w", err)
	}
	id, err := seal.ParseIdentity(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("%s is there and has no recovery key, give another name: %w", f.recovery, err)
	}
	params.Set("recovery-key", id.String())
	return id.String(), nil
}

func newCreate(o *cli.Options) *cobra.Command {
	var f cloudFlags
	var path string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "have the node keep backups in a directory, or in a bucket", Args: cli.Exactly(1),
		Example: `  holdfast datastore create main --path /srv/backup --gc-schedule daily
  holdfast datastore create usb --path /mnt/usb/backup --backing-device 0b1e4ac9-6a4b-4d7e-9c3a-5f0d1e2f3a4b
  holdfast datastore create cloud --s3 wasabi --bucket backups-7f3a --cache-dir /srv/cloud --cache-size 64GiB --encrypt
  holdfast datastore create cloud --s3 wasabi --bucket backups-7f3a --cache-dir /srv/cloud --reuse --recovery-key key.txt
  holdfast datastore create cloud --s3 minio --bucket backups --cache-dir /srv/cloud --override public`,
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := daemon.Given(cmd, createFlags)
			if err != nil {
				return err
			}
			if reuse, _ := cmd.Flags().GetBool("reuse"); reuse {
				params.Set("reuse-datastore", "true")
			}
			made, err := f.params(params, path)
			if err != nil {
				return err
			}
			params.Set("name", args[0])
			if err := do(o, cmd.Context(), http.MethodPost, configPath, params); err != nil {
				return err
			}
			if made != "" {
				printKey(o, f.recovery, made)
			}
			if o.Format == "text" && !o.Quiet {
				fmt.Fprintf(o.Out, "datastore %s is in %s\nback up to it with: holdfast backup NAME.pxar:DIR --store %s; others need a user or token: holdfast acl update /datastore/%s DatastoreBackup --auth-id ID\n", args[0], params.Get("path"), args[0], args[0])
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "path", "", "the directory, on the file system that backups go to")
	daemon.AddFlags(cmd, createFlags)
	f.add(cmd)
	return cmd
}

// printKey shows the recovery key, the only time.
func printKey(o *cli.Options, file, key string) {
	if file != "" {
		fmt.Fprintf(o.Err, "the recovery key is in %s: keep it where no site keeps its own, and not here\n", file)
		return
	}
	fmt.Fprintf(o.Err, "RECOVERY KEY, shown only now. It was tried, and it opens the bucket when all sites are gone.\nPrint it, and keep it where no site keeps its own:\n\n  %s\n\n", key)
}
