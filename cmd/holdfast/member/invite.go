package member

import (
	"context"
	"crypto/ed25519"
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

const invitesPath = operator.InvitesPath

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
	var role, site, comment, replaces string
	var ttl time.Duration
	var uses int
	var approve bool
	cmd := &cobra.Command{
		Use: "create", Short: "make a token that a machine joins with", Args: cli.NoArgs,
		Long: `The token is as secret as a password until it is used or has expired. Roles that may
vote (full, cloud, witness) are signed with the operator's key. A witness has no
datastore, and needs next to nothing: with two sites, have one at a third place.`,
		Example: "  holdfast invite create --role witness\n  holdfast node join TOKEN --name dc --site dc      # on the other machine",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if uses > 1 && (role != "replica" || replaces != "") { // before a lost node is removed
				return cli.Hint(fmt.Errorf("--uses %d: a token for several machines is for replicas only, which never vote", uses), "make a token for each, or use --role replica")
			}
			params := url.Values{"role": {role}, "ttl": {strconv.FormatInt(int64(ttl/time.Second), 10)}, "uses": {strconv.Itoa(uses)}}
			for name, value := range map[string]string{"site": site, "comment": comment} {
				if value != "" {
					params.Set(name, value)
				}
			}
			if approve {
				params.Set("approve", "1")
			}
			c := daemon.Client(o)
			defer c.Close()
			keys, err := s.keys()
			if replaces != "" {
				if err == nil {
					err = replace(cmd.Context(), s, c, keys, replaces, params)
				}
				if err != nil {
					return err
				}
			}
			var r admin.Result
			switch {
			case err == nil && !approve:
				r, err = s.call(cmd.Context(), c, keys, operator.Invite, http.MethodPost, invitesPath, params)
			case role == "replica" || role == "follower" || approve:
				r, err = daemon.Call(cmd.Context(), c, http.MethodPost, invitesPath, params)
			}
			if err != nil {
				return err
			}
			return printInvite(o, r, replaces)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "full", "full, replica, cloud, witness or follower")
	flags.StringVar(&site, "site", "", "the only site that it is for; default: whoever joins says it")
	flags.StringVar(&comment, "comment", "", "what it is for")
	flags.DurationVar(&ttl, "ttl", time.Hour, "how long it is good, at most 168h")
	flags.IntVar(&uses, "uses", 1, "how many machines may join with it, at most 20")
	flags.StringVar(&replaces, "replaces", "", "name of a lost node, which is removed, and whose place, role and site who joins takes")
	flags.BoolVar(&approve, "approve", false, "whoever joins waits until it is approved: holdfast member approve")
	s.flag(cmd)
	return cmd
}

// replace removes a lost node, unless that is done, and has an invite be for its
// place.
func replace(ctx context.Context, s *signer, c *admin.Client, keys []ed25519.PrivateKey, name string, params url.Values) error {
	var m struct{ Role, Site, State string }
	if err := daemon.Get(ctx, c, memberPath, url.Values{"member": {name}}, &m); err != nil {
		return err
	}
	params.Set("role", m.Role)
	params.Set("site", m.Site)
	if params.Get("comment") == "" {
		params.Set("comment", "takes the place of "+name)
	}
	if m.State == "removed" {
		return nil
	}
	_, err := removeWith(ctx, s, c, keys, func() url.Values { return url.Values{"member": {name}, "eject": {"true"}} })
	return err
}

func printInvite(o *cli.Options, r admin.Result, replaces string) error {
	var m struct {
		ID, Token, Role, Advice string
		Expires                 int64
		Approve                 bool
	}
	if err := r.Into(&m); err != nil {
		return err
	}
	as := "--name NAME --site SITE"
	if replaces != "" {
		as = "--replaces " + replaces
	}
	return o.Print(r.Data, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", m.Token)
		fmt.Fprintf(o.Err, "\ninvite %s for a node in the role %s, good until %s\non the other machine:\n  holdfast node join TOKEN %s\n",
			m.ID, m.Role, time.Unix(m.Expires, 0).Format("2006-01-02 15:04"), as)
		if m.Approve {
			fmt.Fprintln(o.Err, "then, here:\n  holdfast member approve NAME      # compare the identity with what node join printed there")
		}
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
			keys, err := s.keys()
			if err == nil {
				_, err = s.call(cmd.Context(), c, keys, operator.Revoke, http.MethodDelete, invitesPath+"/{invite}", params)
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
