// Package complete has the shell complete names that the daemon of this machine knows.
package complete

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	nodes "github.com/holdfast-mesh/holdfast/node/members"
)

// A source is where the daemon lists what an argument or a flag can be: a path of the API,
// and the field of its items that is their name.
type source struct{ path, field string }

var (
	members    = source{"/holdfast/members", "name"}
	datastores = source{"/config/datastore", "name"}
	users      = source{"/access/users", "userid"}
)

// arguments are what the words in the first lines of helps stand for, and those that stand
// for something else in some groups, by "GROUP WORD".
var arguments = map[string]source{
	"MEMBER": members, "USERID": users, "STORE": datastores, "AUTHID": users,
	"DRAFT": {"/holdfast/drafts", "draft"}, "INVITE": {"/holdfast/invites", "id"}, "UPID": {"/nodes/localhost/tasks", "upid"},
	"datastore NAME": datastores, "remote NAME": {"/config/remote", "name"}, "endpoint ID": {"/config/s3", "id"},
	"target NAME": {"/config/notifications/targets", "name"}, "matcher NAME": {"/config/notifications/matchers", "name"}, "notify TARGET": {"/config/notifications/targets", "name"},
	"traffic-control NAME": {"/config/traffic-control", "name"},
}

var flagged = map[string]source{
	"member": members, "remote": members, "node": members, "store": datastores, "remote-store": datastores, "to": datastores,
	"auth-id": users, "owner": users, "actor": users,
}

// patience is how long a shell waits for names at most.
const patience = 2 * time.Second

// Names completes names for all commands below root that do not do so themselves: by the
// words for their arguments, and by the names of their flags.
func Names(o *cli.Options, root *cobra.Command) {
	for _, cmd := range root.Commands() {
		Names(o, cmd)
		if words := placeholders(cmd); cmd.ValidArgsFunction == nil && len(words) > 0 {
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
				if len(args) >= len(words) {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				if words[len(args)].path == "" {
					return nil, cobra.ShellCompDirectiveDefault
				}
				return words[len(args)].names(cmd.Context(), o), cobra.ShellCompDirectiveNoFileComp
			}
		}
		for name, from := range flagged {
			if cmd.Flags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
					return from.names(cmd.Context(), o), cobra.ShellCompDirectiveNoFileComp
				}) // an error says that the command has its own
			}
		}
		if cmd.Flags().Lookup("role") != nil && (root.Name() == "invite" || root.Name() == "member") {
			_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(nodes.Roles(), cobra.ShellCompDirectiveNoFileComp)) // likewise
		}
	}
}

// placeholders are the arguments of a command, in their order; nil if the daemon lists none
// of them. What is made anew has no name yet.
func placeholders(cmd *cobra.Command) (all []source) {
	known := false
	for _, word := range strings.Fields(cmd.Use)[1:] {
		word = strings.Trim(word, "[].…")
		if i := strings.IndexAny(word, "[:/|"); i > 0 {
			word = word[:i]
		}
		from := arguments[word]
		for group := cmd; group != nil; group = group.Parent() {
			if group.Name() == "create" && word != "STORE" {
				from = source{}
				break
			}
			if in, is := arguments[group.Name()+" "+word]; is {
				from = in
				break
			}
		}
		known = known || from.path != ""
		all = append(all, from)
	}
	if !known {
		return nil
	}
	return all
}

// names lists what there is; none if no daemon answers.
func (s source) names(ctx context.Context, o *cli.Options) (all []string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(ctx, c, http.MethodGet, s.path, nil)
	if err != nil {
		return nil
	}
	var list []map[string]any
	if json.Unmarshal(r.Data, &list) != nil {
		return nil
	}
	for _, item := range list {
		if v, is := item[s.field]; is {
			all = append(all, fmt.Sprint(v))
		}
	}
	return all
}
