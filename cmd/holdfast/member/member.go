// Package member has the verbs about who belongs to the cluster: invites,
// members, and the way out after the loss of a quorum.
package member

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/signatures"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

const (
	membersPath = "/holdfast/members"
	memberPath  = membersPath + "/{member}"
)

// New returns the verbs about members.
func New(o *cli.Options) *cobra.Command {
	verbs := []*cobra.Command{
		daemon.Verb{
			Use: "list", Short: "list the members of the cluster", Method: http.MethodGet, Path: membersPath,
			Flags: []daemon.Flag{{Name: "removed", Usage: "with those that were removed", Kind: daemon.Bool}},
			Show:  []string{"name", "site", "role", "state", "health", "voter", "leader", "blocked", "id"},
		}.Command(o),
		newAddress(o),
		daemon.Verb{Use: "show MEMBER", Short: "print a member", Method: http.MethodGet, Path: memberPath, Args: []string{"member"}}.Command(o),
		daemon.Verb{
			Use: "drain MEMBER", Short: "have a member give up its vote and its jobs, before it is removed", Method: http.MethodPut, Path: memberPath,
			Args: []string{"member"}, Fixed: map[string]string{"state": "draining"}, Done: "member {member} is drained; `holdfast member return {member}` takes it back",
		}.Command(o),
		daemon.Verb{
			Use: "return MEMBER", Short: "take a drained member back", Method: http.MethodPut, Path: memberPath,
			Args: []string{"member"}, Fixed: map[string]string{"state": "active"}, Done: "member {member} takes part again",
		}.Command(o),
		newApprove(o),
		daemon.Verb{
			Use: "deny MEMBER", Short: "turn away a machine that waits for approval", Method: http.MethodPut, Path: memberPath,
			Args: []string{"member"}, Fixed: map[string]string{"state": "removed"}, Done: "{member} is turned away; it joins only with a new key and a new token",
		}.Command(o),
		daemon.Verb{
			Use: "set-clock", Short: "set the clock of the ledger back, when it is ahead", Method: http.MethodPut, Path: "/holdfast/clock",
			Long: `The clock of the ledger is that of whoever leads, and never goes back by itself. If that
was wrong once, it is ahead until as much time has passed: nobody can be invited
meanwhile. See first that the clocks of all nodes are right (holdfast status).`,
			Done: "the clock of the ledger is that of the leader again; invites that were made meanwhile end within seven days",
		}.Command(o),
		newVote(o, "promote", true, "let a member vote"),
		newVote(o, "demote", false, "take the vote from a member for good"),
		newRemove(o, "remove", false), newRemove(o, "eject", true), newRecover(o), newOrphans(o),
	}
	return cli.Group("member", "look at the members of the cluster, add and remove them", verbs...)
}

// newAddress returns the verb that says where a member is that nobody reaches.
func newAddress(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "address MEMBER [ADDRESS:PORT…]", Short: "look for a member at these addresses as well; none: no longer", Args: cli.Between(1, 5),
		Long: `For members that moved while they were apart: nobody has heard where they are now.
Say it at one node of each part that found together again, of one member of the other;
the rest follows by itself. The port is the mesh port. Who answers there has to prove
that it is that member. It holds for this node, also after restarts.`,
		Example: "  holdfast member address dc 203.0.113.7:8008",
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			if _, err := daemon.Call(cmd.Context(), c, http.MethodPut, memberPath+"/address", url.Values{"member": args[:1], "address": args[1:]}); err != nil {
				return err
			}
			return o.Print(map[string]any{"member": args[0], "addresses": args[1:]}, func(w io.Writer) {
				if len(args) == 1 {
					fmt.Fprintf(w, "member %s is looked for only where it says that it is\n", args[0])
					return
				}
				fmt.Fprintf(w, "member %s is looked for at %s as well; holdfast status shows whether it is reached\n", args[0], strings.Join(args[1:], ", "))
			})
		},
	}
}

// NewBlock returns the verb that keeps a member out of this node alone.
func NewBlock(o *cli.Options) *cobra.Command {
	var local bool
	var reason string
	cmd := &cobra.Command{
		Use: "block MEMBER --local", Short: "keep a member out of this node, whatever the cluster says", Args: cli.Exactly(1),
		Long: `This node then takes nothing from that member and gives it nothing, from now on and
without asking anybody. It needs no quorum. To lift it takes the operators' signature.
To keep it out of the whole cluster: holdfast member eject.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !local {
				return cli.Usage(errors.New("--local is missing: it says that only this node keeps the member out; for the whole cluster there is `holdfast member eject`"))
			}
			params := url.Values{"member": args}
			if reason != "" {
				params.Set("reason", reason)
			}
			c := daemon.Client(o)
			defer c.Close()
			if _, err := daemon.Call(cmd.Context(), c, http.MethodPost, memberPath+"/block", params); err != nil {
				return err
			}
			return o.Print(map[string]string{"blocked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "member %s is kept out of this node\n", args[0]) })
		},
	}
	cmd.Flags().BoolVar(&local, "local", false, "only this node")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for who reads it later")
	return cmd
}

func newVote(o *cli.Options, use string, vote bool, short string) *cobra.Command {
	s := &signer{o: o}
	cmd := &cobra.Command{
		Use: use + " MEMBER", Short: short, Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := s.keys()
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			params := url.Values{"member": args, "vote": {fmt.Sprint(vote)}}
			if _, err := s.call(cmd.Context(), c, keys, operator.Change, http.MethodPut, memberPath, params); err != nil {
				return err
			}
			return o.Print(map[string]any{"member": args[0], "vote": vote}, func(w io.Writer) {
				fmt.Fprintf(w, "member %s may vote: %t; who does is decided by who is steady, at most one at a site\n", args[0], vote)
			})
		},
	}
	s.flag(cmd)
	return cmd
}

func newRemove(o *cli.Options, use string, eject bool) *cobra.Command {
	s := &signer{o: o}
	short, long := "remove a drained member for good", "Its copies do not count any more. Its machine joins again only with a new key."
	if eject {
		short = "cut a member off at once, and remove it: for one in hostile hands, or lost"
		long = `This node stops to talk to it at once, before anybody has signed. With the operator's
signature, or those of as many operators as must, every node that can be reached does so
within two seconds, before anything is agreed on, and it is removed for good. Until then
it is cut off on this node only; holdfast guard release lets it in again there.

Change what it knew: passwords of shared buckets, of remotes, and keys that it had.`
	}
	cmd := &cobra.Command{
		Use: use + " MEMBER", Short: short, Long: long, Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := daemon.Client(o)
			defer c.Close()
			params := func() url.Values { return url.Values{"member": args, "eject": {fmt.Sprint(eject)}} }
			keys, err := s.keys()
			if err != nil && eject { // cutting it off needs no key
				_, cut := daemon.Call(cmd.Context(), c, http.MethodDelete, memberPath, params())
				if cut == nil {
					err = cli.Hint(fmt.Errorf("%s is cut off here, but is a member still: %w", args[0], err), "repeat it with --operator-key FILE; "+takeBack(args[0]))
				}
				return errors.Join(err, cut)
			}
			if err != nil {
				return err
			}
			r, err := removeWith(cmd.Context(), s, c, keys, params)
			if err != nil {
				return err
			}
			return o.Print(r, func(w io.Writer) { fmt.Fprint(w, outcome(r)) })
		},
	}
	s.flag(cmd)
	return cmd
}

// outcome says who knows of a removal.
func outcome(r members.Removal) string {
	text := "member " + r.Removed + " is removed\n"
	if r.Heard < r.Nodes {
		who := fmt.Sprintf("%d of %s heard of it", r.Heard, cli.Count(r.Nodes, "other node"))
		if r.Heard == 0 {
			who = fmt.Sprintf("nobody could be told: 0 of %s heard of it", cli.Count(r.Nodes, "other node"))
		}
		text += who + ". The others may deal with it still, and are told as soon as they are reached again, by whoever knows\n"
	}
	if !r.Agreed {
		text += "there is no quorum: the ledger is told when there is one\n"
	}
	return text
}

// removeWith removes a member. One that no operator has signed for is named in
// the chain first, which is a call of its own.
func removeWith(ctx context.Context, s *signer, c *admin.Client, keys []ed25519.PrivateKey, params func() url.Values) (done members.Removal, err error) {
	m, err := show(ctx, c, params()["member"])
	if err != nil {
		return done, err
	}
	calls := 1
	if !m.Signed {
		calls = 2
	}
	var r admin.Result
	for range calls {
		if r, err = s.call(ctx, c, keys, operator.Remove, http.MethodDelete, memberPath, params()); err != nil {
			if params().Get("eject") == "true" {
				err = cutOff(ctx, c, m, err)
			}
			return done, err
		}
	}
	done = members.Removal{Removed: m.Name, Agreed: true}
	if string(r.Data) != "null" { // a daemon of before answers nothing
		err = r.Into(&done)
	}
	return done, err
}

// member is what is asked of one before it is removed.
type member struct {
	ID, Name, State string
	Signed, Blocked bool
}

func show(ctx context.Context, c *admin.Client, name []string) (m member, err error) {
	err = daemon.Get(ctx, c, memberPath, url.Values{"member": name}, &m)
	return m, err
}

// takeBack says how a member is let in again that was cut off here.
func takeBack(name string) string {
	return "to let it in here again, which operators sign as well: holdfast guard release --member " + name + " --reason TEXT"
}

// cutOff adds to why a member was not removed that it is cut off here all the same:
// ejecting begins with that, before anybody has signed.
func cutOff(ctx context.Context, c *admin.Client, before member, why error) error {
	m, err := show(ctx, c, []string{before.ID})
	var waits *signatures.Unfinished
	switch {
	case err != nil || !m.Blocked:
		return why
	case errors.As(why, &waits):
		return cli.Hint(fmt.Errorf("%s is cut off here, and by no other node: %w", m.Name, why), waits.Hint()+"; "+takeBack(m.Name))
	case before.Blocked:
		return why
	}
	hint := takeBack(m.Name)
	if known := interface{ Hint() string }(nil); errors.As(why, &known) && known.Hint() != "" {
		hint = known.Hint() + "; " + hint
	}
	return cli.Hint(fmt.Errorf("%s is cut off here, but is a member still: %w", m.Name, why), hint)
}
