// Package guard has the verbs about what a node has promised itself.
package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/signatures"
	"github.com/holdfast-mesh/holdfast/node/operator"
	"github.com/holdfast-mesh/holdfast/node/warden"
)

const (
	path        = "/holdfast/guard"
	releasePath = operator.ReleasePath
)

// New returns the verbs.
func New(o *cli.Options) *cobra.Command {
	return cli.Group("guard", "look at what this node has promised to keep, tighten and loosen it",
		newShow(o), newRaise(o), newRelease(o),
		daemon.Verb{
			Use: "veto ID", Short: "stop a loosening that waits", Method: http.MethodDelete, Path: releasePath + "/{id}", Args: []string{"id"},
			Flags: []daemon.Flag{{Name: "reason", Usage: "why, for who reads it later"}}, Done: "request {id} is of no use any more",
		}.Command(o),
		newBreaker(o, "trip", true, "empty no trash on this node until somebody has looked"),
		newBreaker(o, "close", false, "say that what is in the trash was looked at, and may go"))
}

func newBreaker(o *cli.Options, use string, open bool, short string) *cobra.Command {
	return daemon.Verb{
		Use: use, Short: short, Method: http.MethodPut, Path: path + "/breaker", Fixed: map[string]string{"open": strconv.FormatBool(open)},
		Flags: []daemon.Flag{{Name: "reason", Usage: "why, for who reads it later", Required: true}}, Done: "the breaker is set",
	}.Command(o)
}

func newShow(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "print floors, blocks, the breaker, and what waits to be loosened", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			r, err := daemon.Call(cmd.Context(), c, http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			return print(o, r.Data)
		},
	}
}

func print(o *cli.Options, data json.RawMessage) error {
	var s warden.State
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read the guard: %w", err)
	}
	return o.Print(data, func(w io.Writer) {
		fmt.Fprintln(w, "breaker: "+map[bool]string{true: "closed", false: "OPEN: " + s.Breaker}[s.Breaker == ""])
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range s.Floors {
			locked := ""
			if f.LockUntil > 0 {
				locked = "locked until " + time.Unix(f.LockUntil, 0).UTC().Format(time.DateTime)
			}
			fmt.Fprintf(tab, "floor\t%s\t%s, copies: %d\t%s\n", f.Scope, time.Duration(f.MinAge)*time.Second, f.MinCopies, locked)
		}
		for _, b := range s.Blocks {
			fmt.Fprintf(tab, "block\t%s\t%s\t\n", b.What, b.Reason)
		}
		for _, p := range s.Waiting {
			fmt.Fprintf(tab, "waits\t%s\tin %s: %s\t%s\n", p.ID, time.Duration(p.Left)*time.Second, p.What, p.Reason)
		}
		tab.Flush()
	})
}

// floorFlags are what a floor is made of.
type floorFlags struct {
	age    time.Duration
	copies int
	lock   string
}

func (f *floorFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.age, "min-age", 0, "keep every snapshot for so long: 720h")
	cmd.Flags().IntVar(&f.copies, "min-copies", 0, "remove only what so many others have a proven copy of")
	cmd.Flags().StringVar(&f.lock, "lock-until", "", "remove nothing before a day (UTC) or time: 2027-01-31, 2027-01-31T08:00:00Z")
}

func (f *floorFlags) params(scope string) (url.Values, error) {
	p := url.Values{"scope": {scope}, "min-age": daemon.Number(int64(f.age / time.Second)), "min-copies": daemon.Number(int64(f.copies))}
	if f.lock != "" {
		at, err := parseTime(f.lock)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("--lock-until: %w", err))
		}
		p["lock-until"] = daemon.Number(at.Unix())
	}
	return p, nil
}

// parseTime reads a day, which begins in UTC, or a time with its zone.
func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a day, 2027-01-31, nor a time with its zone, 2027-01-31T08:00:00Z or 2027-01-31T08:00:00+01:00", text)
}

func newRaise(o *cli.Options) *cobra.Command {
	var f floorFlags
	cmd := &cobra.Command{
		Use: "raise STORE[/NAMESPACE]", Short: "raise the floor below which nobody removes anything", Args: cli.Exactly(1),
		Long: `It counts at once, on this node, for the datastore or namespace and all below it. No
command of the cluster goes below it. To lower it again takes the operators'
signatures and fourteen days: holdfast guard release.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			params, err := f.params(args[0])
			if err != nil {
				return err
			}
			if f == (floorFlags{}) {
				return cli.Usage(errors.New("what is kept? --min-age, --min-copies or --lock-until"))
			}
			c := daemon.Client(o)
			defer c.Close()
			if _, err := daemon.Call(cmd.Context(), c, http.MethodPut, path+"/floor", params); err != nil {
				return err
			}
			return o.Print(map[string]string{"scope": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "the floor of %s is raised\n", args[0]) })
		},
	}
	f.add(cmd)
	return cmd
}

func newRelease(o *cli.Options) *cobra.Command {
	var f floorFlags
	var member, block, reason string
	var trash bool
	var sign signatures.Flags
	cmd := &cobra.Command{
		Use: "release [STORE[/NAMESPACE]]", Short: "lower a floor, let a member in again, or empty the trash without a quorum", Args: cobra.MaximumNArgs(1),
		Long: `It takes the signatures of the operators, as many as the cluster wants: name each key
with --operator-key, or with --sign-to FILE write what those sign who are elsewhere; that
is submitted on this node. A floor becomes what the flags say, nothing without any, after
fourteen days by the guard's own clock; a block is lifted at once.`,
		Example: `  holdfast guard release main --min-age 168h --reason 'a month is too long' --operator-key operator.key
  holdfast guard release --member nas --reason 'ejected by mistake' --sign-to release.json
  holdfast operator sign release.json --operator-key second.key     # where that key is
  holdfast operator submit release.json                             # here again`,
		RunE: func(cmd *cobra.Command, args []string) error {
			params, called := url.Values{}, map[string]string{}
			switch wishes := len(args) + count(member != "", block != "", trash); {
			case wishes != 1:
				return cli.Usage(errors.New("what is to be released? One of STORE, --member, --block and --trash"))
			case len(args) == 1:
				var err error
				if params, err = f.params(args[0]); err != nil {
					return err
				}
			case member != "":
				id, err := idOf(cmd.Context(), o, member)
				if err != nil {
					return err
				}
				params.Set("block", "node "+id)
				called[id] = member
			case block != "":
				params.Set("block", block)
			default:
				params.Set("trash", "1")
			}
			params.Set("reason", reason)
			return release(cmd, o, sign, params, called)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&member, "member", "", "name or ID of a member that this node keeps out")
	cmd.Flags().StringVar(&block, "block", "", "anything else that it keeps out, as guard show names it")
	cmd.Flags().BoolVar(&trash, "trash", false, "for a day, empty the trash though the ledger was not heard of")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for who reads it later; required")
	sign.Add(cmd)
	_ = cmd.MarkFlagRequired("reason") // it is there
	return cmd
}

// idOf returns the ID of a member: what operators sign names it.
func idOf(ctx context.Context, o *cli.Options, member string) (string, error) {
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(ctx, c, http.MethodGet, "/holdfast/members/"+url.PathEscape(member), nil)
	if err != nil {
		return "", err
	}
	var m struct{ ID string }
	err = r.Into(&m)
	return m.ID, err
}

func count(all ...bool) (n int) {
	for _, is := range all {
		if is {
			n++
		}
	}
	return n
}

// release has the daemon draft a request, signs it and gives it back, or writes it for
// the others who have to sign, with what nodes are called here.
func release(cmd *cobra.Command, o *cli.Options, sign signatures.Flags, params url.Values, called map[string]string) error {
	keys, err := sign.Keys(o)
	if err != nil {
		return err
	}
	c := daemon.Client(o)
	defer c.Close()
	r, err := daemon.Call(cmd.Context(), c, http.MethodPost, releasePath, params)
	if err != nil {
		return err
	}
	var draft operator.Draft
	if err := r.Into(&draft); err != nil {
		return err
	}
	for id, name := range called {
		draft = draft.Called(id, name)
	}
	draft, what, err := draft.SignRequest(operator.Wanted(params.Get), keys...)
	if err != nil {
		return err
	}
	signatures.Say(o, draft, what)
	if t, err := draft.Tally(); err != nil || !t.Enough() {
		return errors.Join(err, sign.Pass(operator.File{Draft: draft}, t))
	}
	if r, err = daemon.Call(cmd.Context(), c, http.MethodPost, releasePath, url.Values{"request": {draft.Request}}); err != nil {
		return err
	}
	return print(o, r.Data)
}
