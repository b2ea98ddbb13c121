// Package job has the verbs about what the node does by itself, whatever kind of
// job it is: pulls from other nodes, offloads to a bucket, prunes and verifications. The same jobs are
// reached as in proxmox-backup-manager with sync-job, prune-job and verify-job.
package job

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/schedule"
	"github.com/holdfast-mesh/holdfast/node/admin"
)

// A kind of job.
type kind struct {
	name, path string // "pull", "sync": /config/sync, /admin/sync
	article    string
	flags      []daemon.Flag
	required   []string
}

var kinds = []kind{
	{"pull", "sync", "a", schedule.SyncFlags, []string{"store", "remote-store"}},
	{"offload", "offload", "an", schedule.OffloadFlags, []string{"store", "to"}},
	{"export", "export", "an", schedule.ExportFlags, []string{"store", "path"}},
	{"prune", "prune", "a", schedule.PruneFlags, []string{"store", "schedule"}},
	{"verify", "verify", "a", schedule.VerifyFlags, []string{"store"}},
}

// push is a sync job the other way round.
var push = kind{"push", "sync", "a", schedule.SyncFlags, []string{"store", "remote", "remote-store"}}

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	create := cli.Group("create", "make a job")
	for _, k := range append(slices.Clone(kinds), push) {
		create.AddCommand(k.create(o))
	}
	return cli.Group("job", "what this node does by itself: pull copies from other sites, offload to a bucket, prune, verify",
		create, elsewhere(newList(o)), elsewhere(newShow(o)), elsewhere(newUpdate(o)), elsewhere(newRemove(o)), newRun(o), newPlan(o), newCalendar(o), newWhy(o), newRule(o), newPause(o, true), newPause(o, false), newHistory(o), newLog(o), newStop(o))
}

// onNode is the flag, and the parameter, that names the node whose pull jobs are
// meant.
const onNode = "on-node"

func elsewhere(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String(onNode, "", "the node whose pull jobs are meant; default: this one")
	return cmd
}

// where returns the parameters that name that node.
func where(cmd *cobra.Command) url.Values {
	if f := cmd.Flags().Lookup(onNode); f != nil && f.Changed {
		return url.Values{onNode: {f.Value.String()}}
	}
	return url.Values{}
}

// notForPush are the flags of sync jobs that only pulls have.
var notForPush = []string{"sync-direction", "rate-in", "burst-in", "max-delay", "on-change", "sources", "resync-corrupt"}

func (k kind) create(o *cli.Options) *cobra.Command {
	flags := slices.Clone(k.flags)
	for i := range flags {
		flags[i].Required = slices.Contains(k.required, flags[i].Name)
	}
	v := daemon.Verb{
		Use: k.name + " ID", Short: "make " + k.article + " " + k.name + " job", Method: http.MethodPost, Path: "/config/" + k.path,
		Args: []string{"id"}, Flags: flags, Done: k.name + " job {id} is made",
	}
	if k.name == "pull" {
		v.Flags = append(v.Flags, daemon.Flag{Name: onNode, Usage: "the node whose job it is to be, where --store is; default: this one"})
		v.Example = "  holdfast job create pull home-to-dc --remote home --remote-store main --store main --ns home --schedule '05:00' --rate-in 20MiB"
	}
	if k.name == "offload" {
		v.Example = "  holdfast job create offload upload --store main --to cloud --after 7d --schedule '06:00'"
	}
	if k.name == "export" {
		v.Long = "The newest snapshot of each group is written below --path as tar archives and disk images,\nwith checksums and a page that says what to type. What stays there say the keep rules;\nwithout one, all does."
		v.Example = "  holdfast job create export usb --store main --path /mnt/usb/backups --schedule 'sun 04:00' --keep-weekly 4 --keep-monthly 6"
	}
	if k.name == "push" {
		v.Flags = slices.DeleteFunc(v.Flags, func(f daemon.Flag) bool { return slices.Contains(notForPush, f.Name) })
		v.Fixed = map[string]string{"sync-direction": "push"}
		v.Long = "What is in --store goes to --remote-store of --remote, which is a Proxmox Backup Server or a\nnode of another cluster (see remote create), and belongs to the user of the remote there."
		v.Example = "  holdfast job create push offsite --store main --remote office --remote-store backup --remote-ns home --schedule '05:00' --rate-out 20MiB"
	}
	return v.Command(o)
}

// A found job is one of any kind, as the node answers.
type found struct {
	kind
	raw    json.RawMessage
	fields map[string]any
}

func (f found) text(name string) string {
	s, _ := f.fields[name].(string)
	return s
}

// all returns the jobs of all kinds that the caller may see.
func all(ctx context.Context, c *admin.Client, where url.Values) ([]found, error) {
	var list []found
	for _, k := range kinds {
		if where.Has(onNode) && k.name != "pull" {
			continue
		}
		r, err := daemon.Call(ctx, c, http.MethodGet, "/admin/"+k.path, where)
		if err != nil {
			return nil, err
		}
		var jobs []json.RawMessage
		if err := r.Into(&jobs); err != nil {
			return nil, err
		}
		for _, raw := range jobs {
			f := found{kind: k, raw: raw}
			if err := json.Unmarshal(raw, &f.fields); err != nil {
				return nil, fmt.Errorf("a %s job makes no sense: %w", k.name, err)
			}
			if f.text("sync-direction") == "push" {
				f.name = push.name
			}
			list = append(list, f)
		}
	}
	return list, nil
}

// find returns the job of that ID, "pull:ID" if there are several.
func find(ctx context.Context, c *admin.Client, id string, where url.Values) (found, error) {
	list, err := all(ctx, c, where)
	if err != nil {
		return found{}, err
	}
	kindName, name, qualified := strings.Cut(id, ":")
	var hits []found
	for _, f := range list {
		if f.text("id") == id || qualified && f.name == kindName && f.text("id") == name {
			hits = append(hits, f)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return found{}, &hinted{fmt.Errorf("there is no job %q", id), "`holdfast job list` names them"}
	}
	names := make([]string, len(hits))
	for i, h := range hits {
		names[i] = h.name + ":" + id
	}
	return found{}, cli.Usage(fmt.Errorf("%q is the name of several jobs: say which one with %s", id, strings.Join(names, " or ")))
}

// args are the parameters that name a job.
func (f found) args(cmd *cobra.Command) url.Values {
	params := where(cmd)
	params.Set("id", f.text("id"))
	return params
}

// verb makes a command about one job of any kind.
func verb(o *cli.Options, use, short string, do func(cmd *cobra.Command, c *admin.Client, f found) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly(1), ValidArgsFunction: completeIDs(o),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			f, err := find(cmd.Context(), c, args[0], where(cmd))
			if err != nil {
				return err
			}
			return do(cmd, c, f)
		},
	}
}

// A hinted error has a known cure.
type hinted struct {
	error
	cure string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is printed on its own line below the error.
func (e *hinted) Hint() string { return e.cure }
