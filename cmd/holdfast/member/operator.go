package member

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/signatures"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

const operatorsPath = operator.OperatorsPath

// NewOperator returns the verbs about who signs what the cluster is.
func NewOperator(o *cli.Options) *cobra.Command {
	return cli.Group("operator", "look at whose signatures say who belongs to the cluster, change that, and sign",
		daemon.Verb{Use: "list", Short: "print the operators' public keys, and how many have to sign", Method: http.MethodGet, Path: operatorsPath}.Command(o),
		newOperatorKey(o), newOperatorSet(o), newOperatorSign(o), newOperatorSubmit(o), newOperatorVeto(o))
}

func newOperatorKey(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "create-key FILE", Short: "make a key for another operator, and print its public part", Args: cli.Exactly(1),
		Long: "It needs no daemon: let each operator make one on a machine of their own, and keep it there.",
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := keyfile.Make(args[0])
			if err != nil {
				return err
			}
			id := operator.Name(key)
			return o.Print(map[string]string{"operator": id}, func(w io.Writer) { fmt.Fprintln(w, id) })
		},
	}
}

func newOperatorSet(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var threshold int
	cmd := &cobra.Command{
		Use: "set OPERATOR...", Short: "say who the operators are, and how many of them have to sign", Args: cobra.MinimumNArgs(1),
		Long: `Name the public keys of all operators, those of now who stay as well. Whoever can sign
now signs it, and every new operator: with --operator-key for each key that is here, and
with --sign-to FILE for those that are elsewhere.

It counts at once if all operators of now have signed, or the recovery key has for those
who have not. If fewer have, it counts after seven days, in which every status warns of
it and any one of the operators may veto it. With --sign-to nothing is submitted before
it would count at once: the others sign FILE, and holdfast operator submit FILE has it
begin, with those who have signed until then.`,
		Example: "  holdfast operator set 12D3KooWA... 12D3KooWB... 12D3KooWC... --threshold 2 --sign-to set.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := s.keys()
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			slices.Sort(args)
			params := url.Values{"operator": slices.Compact(args), "threshold": {strconv.Itoa(threshold)}}
			s.only = func(what string) bool { return what == operator.Operators(args, threshold) }
			r, err := s.call(cmd.Context(), c, keys, operator.Signers, http.MethodPost, operatorsPath, params)
			if err != nil {
				return err
			}
			now := members.Operators{Operators: params["operator"], Threshold: threshold}
			if string(r.Data) != "null" { // a daemon of before answers nothing
				err = r.Into(&now)
			}
			return errors.Join(err, o.Print(now, func(w io.Writer) {
				from := "now"
				if now.Counts != "" {
					from = now.Counts + ", if no operator vetoes it: not all of them have signed; so it is"
				}
				fmt.Fprintf(w, "%d of %d operators sign from %s on\n", threshold, len(params["operator"]), from)
			}))
		},
	}
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many have to sign; required")
	_ = cmd.MarkFlagRequired("threshold") // it is there
	s.flag(cmd)
	return cmd
}

func newOperatorSign(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var paper bool
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "add your signature to what another operator has begun", Args: cli.Exactly(1),
		Long: `It prints what it signs, and needs no daemon. Names of nodes that it prints are those
which they had where FILE was made, and are not signed; IDs are. FILE may hold the secret
of an invite. A key that was no operator's when FILE was made does not sign.`,
		RunE: func(_ *cobra.Command, args []string) error {
			r, _, err := signatures.Read(args[0])
			if err != nil {
				return err
			}
			keys, err := recoveryKey(s, paper)
			if err != nil {
				return err
			}
			var what string
			if r.Draft, what, err = r.Cosign(keys...); err != nil {
				return err
			}
			s.say(r.Draft, what)
			t, err := r.Tally()
			if err == nil {
				err = signatures.Write(args[0], r)
			}
			if err != nil {
				return err
			}
			return o.Print(map[string]any{"what": what, "signatures": t.Have, "need": t.Need, "missing": t.Missing, "waits": t.Waits}, func(w io.Writer) {
				fmt.Fprintln(w, signatures.Standing(t))
			})
		},
	}
	cmd.Flags().StringSliceVar(&s.Files, "operator-key", nil, "file with your key; required")
	cmd.Flags().BoolVar(&paper, "recovery-key", false, "read the key on paper from the standard input; it has a change of operators count at once")
	cmd.MarkFlagsOneRequired("operator-key", "recovery-key")
	cmd.MarkFlagsMutuallyExclusive("operator-key", "recovery-key")
	return cmd
}

func newOperatorVeto(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var paper bool
	cmd := &cobra.Command{
		Use: "veto", Short: "drop a change of the operators that waits", Args: cli.NoArgs,
		Long: `A change of the operators that not all of them have signed waits for seven days, and
status warns of it. Any one operator may drop it, on any member, also alone; so may the
recovery key.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := recoveryKey(s, paper)
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			if _, err := s.call(cmd.Context(), c, keys, operator.Veto, http.MethodDelete, operatorsPath, url.Values{}); err != nil {
				return err
			}
			return o.Print(map[string]bool{"vetoed": true}, func(w io.Writer) {
				fmt.Fprintln(w, "the operators stay who they are; if a key was stolen, take it away: all others and the recovery key sign it, holdfast operator set")
			})
		},
	}
	cmd.Flags().BoolVar(&paper, "recovery-key", false, "read the key on paper from the standard input")
	s.flag(cmd)
	return cmd
}

func newOperatorSubmit(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "submit FILE", Short: "have done what enough operators have signed", Args: cli.Exactly(1),
		Long: `It does what is signed in FILE, and nothing else: a file that names another call, or
that nobody has signed, is refused. What loosens the guard of a node has to be submitted
on that node; everything else on any member.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, call, err := signatures.Read(args[0])
			if err == nil {
				err = r.Ready()
			}
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			answer, err := daemon.Call(cmd.Context(), c, call.Method, call.Path, call.Params)
			if err != nil {
				return err
			}
			if r.Request != "" {
				return released(o, r, answer)
			}
			if string(answer.Data) == "null" {
				return o.Print(answer.Data, func(w io.Writer) { fmt.Fprintln(w, "done") })
			}
			return daemon.Print(o, answer, nil)
		},
	}
}

// released says what became of a guard that was loosened here.
func released(o *cli.Options, r operator.File, answer admin.Result) error {
	asked, err := operator.ReadRequest(r.Request)
	if err != nil {
		return err
	}
	return o.Print(answer.Data, func(w io.Writer) {
		when := "it counts now"
		if asked.Floor != nil {
			when = "it counts in fourteen days by the clock of this node's guard, unless it is vetoed: holdfast guard show"
		}
		fmt.Fprintf(w, "operators have signed to %s; %s\n", r.Named(operator.What(asked)), when)
	})
}
