// Command holdfast is the command line of Holdfast: one file for each verb.
// Those about one noun have a package of their own; package cli is what all
// of them share.
//
// Whatever fails is printed in one place, as what failed, then a hint what to
// do about it. Exit status: 0 done, 1 failed, 2 misused.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/account"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/audit"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/complete"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/datastore"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/doctor"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/guard"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/job"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/key"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/member"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/node"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/notify"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/remote"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/s3"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/schedule"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/snapshot"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/task"

	"github.com/spf13/cobra"
)

// version is set by the Makefile from the git tag.
var version = "development"

// memoryLimit is where the collector of garbage begins to work harder, in bytes.
// It bounds a backup or restore of any size; GOMEMLIMIT overrules it.
const memoryLimit = 180 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that whoever asks a second time is not kept waiting
	os.Exit(run(ctx, cli.Env{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Terminal: cli.IsTerminal(os.Stderr)}, os.Args[1:]))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, e cli.Env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return cli.Report(e, cmd, err)
}

func newRoot(e cli.Env) *cobra.Command {
	o := &cli.Options{Env: e}
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         "replicated backups for Proxmox VE, from many sites to many sites",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.Check() },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("there is no command %q", args[0]))
			}
			return cmd.Help()
		},
	}
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Usage(err) })
	flags := root.PersistentFlags()
	flags.StringVar(&o.Repository, "repository", e.Getenv("PBS_REPOSITORY"), "the store to work on: /DIRECTORY, s3://BUCKET/PREFIX or [[USER@REALM[!TOKEN]@]HOST[:PORT]:]STORE; default: the node on this machine (env PBS_REPOSITORY)")
	flags.StringVar(&o.Data, "data", cmp.Or(e.Getenv("HOLDFAST_DATA"), cli.DefaultData), "where the node on this machine keeps its data (env HOLDFAST_DATA)")
	flags.StringVar(&o.RecoveryKey, "recovery-key-file", e.Getenv("HOLDFAST_RECOVERY_KEY_FILE"), "file with the recovery key of a bucket that --repository names (env HOLDFAST_RECOVERY_KEY_FILE)")
	flags.StringVar(&o.Format, "output-format", "text", "text, json or json-pretty")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "print results only, no progress")
	root.AddCommand(newBackup(o), newRestore(o), newMount(o), snapshot.New(o), newGroup(o), newPrune(o), newNamespace(o), datastore.New(o),
		key.New(o), newBenchmark(o), newVersion(o), newMan(o))
	root.AddCommand(node.New(o, version), node.NewStatus(o), node.NewCert(o), account.NewUser(o), account.NewACL(o), task.New(o), member.New(o), member.NewInvite(o), member.NewDraft(o), member.NewOperator(o), guard.New(o), audit.New(o),
		schedule.NewPruneJob(o), schedule.NewVerifyJob(o), schedule.NewSyncJob(o), job.New(o), schedule.NewTraffic(o), s3.New(o), doctor.New(o), notify.New(o), remote.New(o))
	addExamples(root)
	complete.Names(o, root)
	return root
}
