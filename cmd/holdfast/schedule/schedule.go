// Package schedule has the verbs about what the node does by itself: prune and
// verify jobs, and rules for traffic. They take what proxmox-backup-manager
// takes.
package schedule

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
)

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete
)

// A config is something with a name in the configuration.
type config struct {
	what, article string // "prune job", "a"
	path, id      string // "/config/prune", "id"
	show          []string
	flags         []daemon.Flag
	required      []string // flags without which there can be none
}

// verbs are what every such thing has.
func (c config) verbs() []daemon.Verb {
	one, args := c.path+"/{"+c.id+"}", []string{c.id}
	create := make([]daemon.Flag, len(c.flags))
	for i, f := range c.flags {
		create[i] = f
		for _, name := range c.required {
			create[i].Required = create[i].Required || name == f.Name
		}
	}
	update := append([]daemon.Flag{
		{Name: "delete", Usage: "options to be set back to their default", Kind: daemon.List},
		{Name: "digest", Usage: "fail if it was changed since this digest was shown"},
	}, c.flags...)
	return []daemon.Verb{
		{Use: "list", Short: "list all", Method: get, Path: c.path, Show: append([]string{c.id}, c.show...)},
		{Use: "show ID", Short: "print one", Method: get, Path: one, Args: args},
		{Use: "create ID", Short: "make " + c.article + " " + c.what, Method: post, Path: c.path, Args: args, Flags: create, Done: c.what + " {" + c.id + "} is made"},
		{Use: "update ID", Short: "change " + c.article + " " + c.what, Method: put, Path: one, Args: args, Flags: update, Done: c.what + " {" + c.id + "} is changed"},
		{Use: "remove ID", Short: "remove " + c.article + " " + c.what, Method: del, Path: one, Args: args,
			Flags: update[1:2], Done: c.what + " {" + c.id + "} is removed"},
	}
}

func group(o *cli.Options, use, short string, verbs ...daemon.Verb) *cobra.Command {
	cmd := cli.Group(use, short)
	for _, v := range verbs {
		cmd.AddCommand(v.Command(o))
	}
	return cmd
}

// scope are the flags that say what a job is about.
var scope = []daemon.Flag{
	{Name: "store", Usage: "the datastore"},
	{Name: "ns", Usage: "the namespace; default: the root"},
	{Name: "max-depth", Usage: "levels of namespaces below it; default: all", Kind: daemon.Int},
	{Name: "schedule", Usage: "when, as a calendar event: daily, 'mon..fri 21:30', hourly"},
	{Name: "comment", Usage: "what it is for, in one line"},
}

// Keep are the flags that say what a prune leaves.
var Keep = []daemon.Flag{
	{Name: "keep-last", Usage: "the last so many snapshots of a group", Kind: daemon.Int},
	{Name: "keep-hourly", Usage: "the last one of so many hours", Kind: daemon.Int},
	{Name: "keep-daily", Usage: "the last one of so many days", Kind: daemon.Int},
	{Name: "keep-weekly", Usage: "the last one of so many weeks", Kind: daemon.Int},
	{Name: "keep-monthly", Usage: "the last one of so many months", Kind: daemon.Int},
	{Name: "keep-yearly", Usage: "the last one of so many years", Kind: daemon.Int},
}

func flags(lists ...[]daemon.Flag) []daemon.Flag {
	var all []daemon.Flag
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// The flags of the kinds of jobs.
var (
	PruneFlags  = flags(scope, Keep, []daemon.Flag{{Name: "disable", Usage: "do not run it by schedule", Kind: daemon.Bool}})
	VerifyFlags = flags(scope, []daemon.Flag{
		{Name: "ignore-verified", Usage: "leave out what was verified; default: yes", Kind: daemon.Bool},
		{Name: "outdated-after", Usage: "days after which it is verified again all the same", Kind: daemon.Int},
		{Name: "read-threads", Usage: "chunks that are read at the same time", Kind: daemon.Int},
		{Name: "verify-threads", Usage: "chunks that are checked at the same time", Kind: daemon.Int},
		{Name: "sample", Usage: "of a datastore with a bucket read only so many stretches by chance, about a request each; 0: all", Kind: daemon.Int},
		{Name: "max-bytes", Usage: "of a datastore with a bucket read only stretches by chance, and not more than so much: 20GiB; 0: no bound"},
	})
	OffloadFlags = flags(scope, []daemon.Flag{
		{Name: "to", Usage: "the datastore whose home is a bucket"},
		{Name: "to-ns", Usage: "the namespace there; default: the root"},
		{Name: "after", Usage: "only snapshots that are at least so old: 7d, 36h; default: all"},
		{Name: "group-filter", Usage: "only such groups: type:vm, group:vm/100, regex:EXPRESSION; all but such with exclude: before it", Kind: daemon.Repeat},
		{Name: "owner", Usage: "whose the copies are; default: root@pam"},
		{Name: "verified-only", Usage: "only snapshots whose last verification was fine", Kind: daemon.Bool},
		{Name: "transfer-last", Usage: "of each group only the newest so many", Kind: daemon.Int},
		{Name: "disable", Usage: "do not run it by itself", Kind: daemon.Bool},
	})
	ExportFlags = flags(scope, Keep, []daemon.Flag{
		{Name: "path", Usage: "the directory, which is there; nothing is written when it is not mounted"},
		{Name: "group-filter", Usage: "only such groups: type:vm, group:vm/100, regex:EXPRESSION; all but such with exclude: before it", Kind: daemon.Repeat},
		{Name: "associated-key", Usage: "keys that decrypt what they encrypted (key add)", Kind: daemon.List},
		{Name: "disable", Usage: "do not run it by itself", Kind: daemon.Bool},
	})
	SyncFlags = flags([]daemon.Flag{
		{Name: "remote", Usage: "the node that has what is to be copied, by its name; default: this one"},
		{Name: "remote-store", Usage: "the datastore there"},
		{Name: "remote-ns", Usage: "the namespace there; default: the root"},
	}, scope, []daemon.Flag{
		{Name: "group-filter", Usage: "only such groups: type:vm, group:vm/100, regex:EXPRESSION; all but such with exclude: before it", Kind: daemon.Repeat},
		{Name: "owner", Usage: "whose the copies are; default: root@pam"},
		{Name: "remove-vanished", Usage: "remove copies of what was pruned at the source, as far as this site lets it", Kind: daemon.Bool},
		{Name: "verified-only", Usage: "only snapshots whose last verification was fine", Kind: daemon.Bool},
		{Name: "encrypted-only", Usage: "only snapshots that are encrypted", Kind: daemon.Bool},
		{Name: "resync-corrupt", Usage: "fetch again what failed its verification here", Kind: daemon.Bool},
		{Name: "transfer-last", Usage: "of each group only the newest so many", Kind: daemon.Int},
		{Name: "worker-threads", Usage: "groups that are copied at the same time, 1 to 32; default 1", Kind: daemon.Int},
		{Name: "rate-in", Usage: "bytes a second that it may fetch: 20MiB"},
		{Name: "burst-in", Usage: "bytes that may come at once after a pause"},
		{Name: "rate-times", Usage: "lower rates for parts of the week, the first that is now counts: 'mon..fri 8-18=5MiB'", Kind: daemon.Repeat},
		{Name: "max-delay", Usage: "how much longer than usual round trips may get before it fetches more slowly; off: any; default 100ms"},
		{Name: "run-on-mount", Usage: "run it when its datastore becomes available, as when its removable disk is mounted", Kind: daemon.Bool},
		{Name: "unmount-on-done", Usage: "after a run that began so, unmount the disk, or take the datastore out of service if it is on none", Kind: daemon.Bool},
		{Name: "on-change", Usage: "run it when something is new at the source; --schedule on-change is the same", Kind: daemon.Bool},
		{Name: "sources", Usage: "who else gives chunks: NODE, NODE:STORE, or any for all that have some", Kind: daemon.List},
		{Name: "active-encryption-key", Usage: "what a push encrypts with that is not encrypted (key add); the one before stays associated"},
		{Name: "associated-key", Usage: "keys that a pull decrypts with what they encrypted; those that are not named go", Kind: daemon.List},
		{Name: "rate-out", Usage: "bytes a second that a push may send: 20MiB"},
		{Name: "burst-out", Usage: "bytes that may go at once after a pause"},
		{Name: "sync-direction", Usage: "pull, or push: from here to a remote"},
		{Name: "disable", Usage: "do not run it by itself", Kind: daemon.Bool},
	})
)

// NewPruneJob returns the verbs about prune jobs.
func NewPruneJob(o *cli.Options) *cobra.Command {
	c := config{
		what: "prune job", article: "a", path: "/config/prune", id: "id",
		show:     []string{"disable", "store", "ns", "schedule", "keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly", "comment"},
		flags:    PruneFlags,
		required: []string{"store", "schedule"},
	}
	run := daemon.Verb{Use: "run ID", Short: "run a prune job now", Method: post, Path: "/admin/prune/{id}/run", Args: []string{"id"}, Task: true}
	return group(o, "prune-job", "have old snapshots removed by schedule", append(c.verbs(), run)...)
}

// NewVerifyJob returns the verbs about verify jobs.
func NewVerifyJob(o *cli.Options) *cobra.Command {
	c := config{
		what: "verify job", article: "a", path: "/config/verify", id: "id",
		show:     []string{"store", "ns", "schedule", "ignore-verified", "outdated-after", "comment"},
		flags:    VerifyFlags,
		required: []string{"store"},
	}
	run := daemon.Verb{Use: "run ID", Short: "run a verify job now", Method: post, Path: "/admin/verify/{id}/run", Args: []string{"id"}, Task: true}
	return group(o, "verify-job", "have snapshots read again by schedule", append(c.verbs(), run)...)
}

// NewSyncJob returns the verbs about sync jobs.
func NewSyncJob(o *cli.Options) *cobra.Command {
	c := config{
		what: "sync job", article: "a", path: "/config/sync", id: "id",
		show:     []string{"store", "ns", "remote", "remote-store", "remote-ns", "schedule", "rate-in", "comment"},
		flags:    SyncFlags,
		required: []string{"store", "remote-store"},
	}
	run := daemon.Verb{Use: "run ID", Short: "run a sync job now", Method: post, Path: "/admin/sync/{id}/run", Args: []string{"id"}, Task: true}
	return group(o, "sync-job", "copy what other sites hold, by schedule; see also job", append(c.verbs(), run)...)
}

// NewTraffic returns the verbs about rules for traffic.
func NewTraffic(o *cli.Options) *cobra.Command {
	c := config{
		what: "traffic rule", article: "a", path: "/config/traffic-control", id: "name",
		show: []string{"network", "rate-in", "burst-in", "rate-out", "burst-out", "timeframe", "comment"},
		flags: []daemon.Flag{
			{Name: "network", Usage: "connections from there: 10.0.0.0/8", Kind: daemon.List},
			{Name: "rate-in", Usage: "bytes a second that the node receives: 10MiB"},
			{Name: "burst-in", Usage: "bytes that may come at once"},
			{Name: "rate-out", Usage: "bytes a second that the node sends"},
			{Name: "burst-out", Usage: "bytes that may go at once"},
			{Name: "timeframe", Usage: "windows of the day in which it holds: 'mon..fri 8-18'; default: always", Kind: daemon.List},
			{Name: "users", Usage: "only connections of these users", Kind: daemon.List},
			{Name: "comment", Usage: "what it is for, in one line"},
		},
		required: []string{"network"},
	}
	now := daemon.Verb{Use: "traffic", Short: "print how fast each rule's traffic is now, in bytes a second", Method: get, Path: "/admin/traffic-control",
		Show: []string{"name", "network", "rate-in", "cur-rate-in", "rate-out", "cur-rate-out"}}
	return group(o, "traffic-control", "limit how fast networks back up and restore", append(c.verbs(), now)...)
}
