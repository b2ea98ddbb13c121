package member

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

const invitesPath = "/holdfast/invites"

// NewInvite returns the verbs about invites.
func NewInvite(o *cli.Options) *cobra.Command {
	return cli.Group("invite", "make and revoke the tokens that machines join with", newCreate(o),
		daemon.Verb{
			Use: "list", Short: "list invites", Method: http.MethodGet, Path: invitesPath,
			Show: []string{"id", "role", "site", "state", "uses", "expires", "comment"},
		}.Command(o), newRevoke(o))
}

func newCreate(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var role, site, comment string
	var ttl time.Duration
	var uses int
	cmd := &cobra.Command{
		Use: "create", Short: "make a token that a machine joins with", Args: cli.NoArgs,
		Long: `The token is as secret as a password until it is used or has expired. Roles that may
vote (full, cloud, witness) are signed with the operator's key. A witness has no
datastore, and needs next to nothing: with two sites, have one at a third place.`,
		Example: "  holdfast invite create --role witness\n  holdfast node join TOKEN --name dc --site dc      # on the other machine",
		RunE: func(cmd *cobra.Command, _ []string) error {
			params := url.Values{"role": {role}, "ttl": {strconv.FormatInt(int64(ttl/time.Second), 10)}, "uses": {strconv.Itoa(uses)}}
			for name, value := range map[string]string{"site": site, "comment": comment} {
				if value != "" {
					params.Set(name, value)
				}
			}
			c := daemon.Client(o)
			defer c.Close()
			key, err := s.key()
			var r admin.Result
			switch {
			case err == nil:
				r, err = s.call(cmd.Context(), c, key, operator.Invite, http.MethodPost, invitesPath, params)
			case role == "replica" || role == "follower":
				r, err = daemon.Call(cmd.Context(), c, http.MethodPost, invitesPath, params)
			}
			if err != nil {
				return err
			}
			return printInvite(o, r)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "full", "full, replica, cloud, witness or follower")
	flags.StringVar(&site, "site", "", "the only site that it is for; default: whoever joins says it")
	flags.StringVar(&comment, "comment", "", "what it is for")
	flags.DurationVar(&ttl, "ttl", time.Hour, "how long it is good, at most 168h")
	flags.IntVar(&uses, "uses", 1, "how many machines may join with it, at most 20")
	s.flag(cmd)
	return cmd
}

func printInvite(o *cli.Options, r admin.Result) error {
	var m struct {
		ID, Token, Role, Advice string
		Expires                 int64
	}
	if err := r.Into(&m); err != nil {
		return err
	}
	return o.Print(r.Data, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", m.Token)
		fmt.Fprintf(o.Err, "\ninvite %s for a node in the role %s, good until %s\non the other machine:\n  holdfast node join TOKEN --name NAME --site SITE\n",
			m.ID, m.Role, time.Unix(m.Expires, 0).Format("2006-01-02 15:04"))
		if m.Advice != "" {
			fmt.Fprintf(o.Err, "note: %s\n", m.Advice)
		}
	})
}

func newRevoke(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	cmd := &cobra.Command{
		Use: "revoke INVITE", Short: "end an invite before it is used", Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			params := url.Values{"invite": args}
			key, err := s.key()
			if err == nil {
				_, err = s.call(cmd.Context(), c, key, operator.Revoke, http.MethodDelete, invitesPath+"/{invite}", params)
			} else {
				_, err = daemon.Call(cmd.Context(), c, http.MethodDelete, invitesPath+"/{invite}", params)
			}
			if err != nil {
				return err
			}
			return o.Print(map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "invite %s is revoked\n", args[0]) })
		},
	}
	s.flag(cmd)
	return cmd
}
