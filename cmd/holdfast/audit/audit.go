// Package audit has the verbs about who changed what.
package audit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/audit"
)

// New returns the verb and the one below it.
func New(o *cli.Options) *cobra.Command {
	flags := []daemon.Flag{
		{Name: "limit", Usage: "how many records, at most 4096, which is all that a ledger keeps", Kind: daemon.Int},
		{Name: "before", Usage: "only records with a lower index: the page before", Kind: daemon.Int},
		{Name: "all", Usage: "also what nodes do by themselves all day: sessions, claims, checkpoints", Kind: daemon.Bool},
		{Name: "actor", Usage: "only of this user, with what the user's tokens did"},
		{Name: "subject", Usage: "only what is about this, or begins so: users/alice@pbs, acl/, datastores/"},
		{Name: "node", Usage: "only what was asked at this node"},
		{Name: "kind", Usage: "only of this kind: " + strings.Join(audit.Kinds, ", ")},
	}
	cmd := &cobra.Command{
		Use: "audit", Short: "print who changed what: users, rights, datastores, jobs, members, invites",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("audit has no command %q", args[0]))
			}
			return nil
		},
		Long: `Every change that the cluster agreed on, and every one that was refused, the newest
last: as this node has it, which may be behind while it is cut off. The ledger keeps the
last 4096 commands. It says what was changed, not what it was before. Times are those of
this machine's time zone.

Each record is chained to the one before, so that none can be changed or left out
unseen. To check that elsewhere, save all, and have it verified:
  ` + audit.Save + ` >FILE
  holdfast audit verify FILE`,
		Example: "  holdfast audit --limit 10\n  holdfast audit --actor alice@pbs\n  holdfast audit --subject acl/",
		RunE: func(cmd *cobra.Command, _ []string) error {
			params, err := daemon.Given(cmd, flags)
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			r, err := daemon.Call(cmd.Context(), c, http.MethodGet, audit.Path, params)
			if err != nil {
				return err
			}
			var log audit.Log
			if err := r.Into(&log); err != nil {
				return err
			}
			if err := o.Print(r.Data, func(w io.Writer) { table(w, log.Records) }); err != nil {
				return err
			}
			return conclude(o, log, params)
		},
	}
	daemon.AddFlags(cmd, flags)
	cmd.Flags().Lookup("limit").DefValue = "50"
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(audit.Kinds, cobra.ShellCompDirectiveNoFileComp)) // fails only if it is registered twice
	cmd.AddCommand(newVerify(o))
	return cmd
}

// conclude says whether the chain holds, and where there is more.
func conclude(o *cli.Options, log audit.Log, params url.Values) error {
	l := log.Ledger
	if l.Broken != "" {
		return cli.Hint(fmt.Errorf("the chain of the audit on this node is broken: %s", l.Broken),
			"do not trust what is shown; run holdfast audit on another member, and keep a copy of this node's data directory")
	}
	if o.Quiet || o.Format != "text" {
		return nil
	}
	if log.Before > 0 {
		more := ""
		for _, name := range []string{"limit", "all", "actor", "subject", "node", "kind"} {
			if v := params.Get(name); v != "" {
				more += " --" + name + "=" + v
			}
		}
		fmt.Fprintf(o.Err, "older: holdfast audit%s --before %d\n", more, log.Before)
	}
	fmt.Fprintf(o.Err, "the ledger of this node has %s, of commands %d to %d; the chain is unbroken\nhead: %s\n", cli.Count(l.Records, "record"), l.First, l.Last, plain(l.Root))
	return nil
}

func table(w io.Writer, list []audit.Record) {
	if len(list) == 0 {
		fmt.Fprintln(w, "none")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "time\twho\tfrom\tat node\twhat\tresult")
	for _, r := range list {
		result, at, from := r.Result, r.NodeName, r.Address
		if r.Why != "" {
			result += ": " + r.Why
		}
		if at == "" {
			at = r.Node
		}
		if from == "" {
			from = "-"
		}
		cells := []string{time.Unix(r.Time, 0).Format("2006-01-02 15:04:05"), r.Actor, from, at, r.What, result}
		for i := range cells {
			cells[i] = plain(cells[i])
		}
		fmt.Fprintln(tab, strings.Join(cells, "\t"))
	}
	tab.Flush()
}

// plain takes out what would move the cursor of a terminal: members wrote it.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// maxFile bounds what is read of a file.
const maxFile = 64 << 20

func newVerify(o *cli.Options) *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "check the chain of an audit that was saved", Args: cli.Exactly(1),
		Long: `It needs no daemon, and trusts nothing that the file says of itself. FILE was saved with
  ` + audit.Save + `
and is checked record by record: that none was changed, left out or put elsewhere. Whether
the newest are missing at the end, no file can know: have the head that holdfast audit
prints, on a member that you trust, and name it with --head. It fails then if the file
ends before the record of that head.`,
		Example: "  holdfast audit verify audit.json\n  holdfast audit verify audit.json --head 5f2c…",
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := load(args[0])
			if err != nil {
				return err
			}
			v, err := audit.Verify(log)
			given := cmd.Flags().Changed("head")
			if err == nil && given {
				err = v.Reaches(head)
			}
			if err != nil {
				return fmt.Errorf("verify %s: %w", args[0], err)
			}
			return o.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "the chain is unbroken from command %d to command %d, %s\n", v.First, v.Last, cli.Count(v.Records, "record"))
				fmt.Fprintf(w, "root of command %d: %s\n", v.Last, v.Root)
				if given {
					fmt.Fprintln(w, "it goes up to the head that was given, or further")
				} else {
					fmt.Fprintf(w, "whether there are records behind command %d, it cannot say: compare with --head HEAD, which holdfast audit prints on a member\n", v.Last)
				}
				if !v.Oldest {
					fmt.Fprintf(w, "of command %d itself nothing is proven: the one before it is forgotten\n", v.First)
				}
			})
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "root of the newest record, as a member prints it: fail if the file ends before it")
	return cmd
}

func load(file string) (log audit.Log, err error) {
	f, err := os.Open(file)
	if err != nil {
		return log, err
	}
	defer f.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("it has more than " + strconv.Itoa(maxFile>>20) + " MiB")
	}
	if err == nil {
		log, err = audit.Read(text)
	}
	if err != nil {
		return log, cli.Hint(fmt.Errorf("read the audit in %s: %w", file, err), "save it with: "+audit.Save)
	}
	return log, nil
}
