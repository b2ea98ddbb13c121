package member

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

const recoverPath = operator.RecoverPath

// A survivor is a node of the group, and how far it is.
type survivor struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	Why  string `json:"why"`
	Last uint64 `json:"last"`
	Term uint64 `json:"term"`
	Best bool   `json:"best"`

	Leads bool `json:"leads"`
}

func newRecover(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var plan, paper bool
	var reason string
	cmd := &cobra.Command{
		Use: "recover-quorum", Short: "go on alone, when most voters are lost for good", Args: cli.NoArgs,
		Long: `This node becomes the only voter, in a new incarnation of the cluster, which keeps the
lost ones out if they come back: they join again by themselves, as standbys. It is to be
run on the node whose log is newest; --plan asks all, and changes nothing.

It takes the operator's key, or with --recovery-key the key on paper that node init
printed, which is read from the standard input.

Nothing that a backup or a restore needs waits for this. If a machine may come back by
itself soon, wait.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := daemon.Client(o)
			defer c.Close()
			if plan {
				defer patience(o).Stop()
				return printPlan(cmd.Context(), o, c)
			}
			keys, err := recoveryKey(s, paper)
			if err != nil {
				return err
			}
			defer patience(o).Stop()
			if _, err := s.call(cmd.Context(), c, keys, operator.Recover, http.MethodPost, recoverPath, url.Values{"reason": {reason}}); err != nil {
				return err
			}
			return o.Print(map[string]bool{"recovered": true}, func(w io.Writer) {
				fmt.Fprintln(w, "this node goes on alone, and has a quorum; the others join again when they can reach it")
			})
		},
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "print which node should go on, and change nothing")
	cmd.Flags().BoolVar(&paper, "recovery-key", false, "read the key on paper from the standard input")
	cmd.Flags().StringVar(&reason, "reason", "most voters are lost", "why, for who reads it later")
	s.flag(cmd)
	return cmd
}

// patience says what it waits for if an answer takes a while.
func patience(o *cli.Options) *time.Timer {
	return time.AfterFunc(3*time.Second, func() {
		fmt.Fprintln(o.Err, "the others are still asked how far they are: up to half a minute")
	})
}

func recoveryKey(s *signer, paper bool) ([]ed25519.PrivateKey, error) {
	if !paper {
		return s.keys()
	}
	fmt.Fprintln(s.o.Err, "the recovery key:")
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 4096)).ReadString('\n')
	if err != nil && line == "" {
		return nil, fmt.Errorf("read the recovery key: %w", err)
	}
	s.alone = true
	key, err := keyfile.ReadPaper(line)
	return []ed25519.PrivateKey{key}, err
}

func printPlan(ctx context.Context, o *cli.Options, c *admin.Client) error {
	r, err := daemon.Call(ctx, c, http.MethodGet, recoverPath, nil)
	if err != nil {
		return err
	}
	var list []survivor
	if err := r.Into(&list); err != nil {
		return err
	}
	return o.Print(r.Data, func(w io.Writer) {
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "node\tlog ends with\tof term\t")
		for _, n := range list {
			note := n.Why
			if note != "" {
				note, _, _ = strings.Cut(note, "\n")
				fmt.Fprintf(tab, "%s\t-\t-\tis not reached: %s\n", n.Name, note)
				continue
			}
			switch {
			case n.Best:
				note = "run recover-quorum here"
			case n.Leads:
				note = "leads: nothing needs to be recovered"
			}
			fmt.Fprintf(tab, "%s\t%d\t%d\t%s\n", n.Name, n.Last, n.Term, note)
		}
		tab.Flush()
	})
}
