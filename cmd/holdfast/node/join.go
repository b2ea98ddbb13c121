package node

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/node"
)

// joinTime is how long joining may take, on a bad line and through a relay.
const joinTime = 2 * time.Minute

func newJoin(o *cli.Options, version string) *cobra.Command {
	c := node.Config{}
	var replaces string
	cmd := &cobra.Command{
		Use: "join TOKEN|-", Short: "make the node of this machine, in a cluster that is there", Args: cli.Exactly(1),
		Long: `TOKEN is what holdfast invite create printed on a member; with - it is read from the
standard input, and stays out of the history of the shell. Then run the node with
holdfast node run. If it fails, the same command may be repeated.

With --replaces NAME a machine that was installed anew, or bought for a lost one, takes
the place of a node: it has its name, and sets up its datastores and jobs. The token for
that comes from holdfast invite create --replaces NAME, which removes the lost node.`,
		Example: "  holdfast node join hf1.… --name dc --site dc",
		RunE: func(cmd *cobra.Command, args []string) error {
			token := args[0]
			if token == "-" {
				line, err := bufio.NewReader(io.LimitReader(os.Stdin, 8192)).ReadString('\n')
				if err != nil && line == "" {
					return fmt.Errorf("read the token: %w", err)
				}
				token = line
			}
			c.Name = cmp.Or(c.Name, replaces)
			if c.Name == "" {
				host, _ := os.Hostname()
				c.Name, _, _ = strings.Cut(host, ".")
			}
			if c.Name == "" {
				return cli.Usage(errors.New("--name is missing: what is this node called?"))
			}
			dir, err := filepath.Abs(o.Data)
			if err != nil {
				return err
			}
			c.Dir, c.Version = dir, version
			ctx, cancel := context.WithTimeout(cmd.Context(), joinTime)
			defer cancel()
			joined, err := node.Join(ctx, c, token, replaces)
			if err != nil {
				return err
			}
			return o.Print(map[string]any{"dir": dir, "name": c.Name, "site": joined.Site, "role": joined.Role, "member": joined.Member, "pending": joined.Pending, "id": joined.Node}, func(w io.Writer) {
				fmt.Fprintf(w, "node %s at site %s is in the cluster, in the role %s\n", c.Name, joined.Site, joined.Role)
				if joined.Pending {
					fmt.Fprintf(w, "its identity is %s\nit takes part when an operator has compared that and approved it, on a member:\n  holdfast member approve %s\n", joined.Node, c.Name)
				}
				data := ""
				if o.Data != cli.DefaultData {
					data = " --data " + o.Data
				}
				fmt.Fprintf(w, "\nnext:\n  holdfast node run%s        # or: systemctl enable --now holdfast\n", data)
			})
		},
	}
	addFlags(cmd, &c)
	cmd.Flags().StringVar(&replaces, "replaces", "", "name of the lost node whose place this one takes")
	return cmd
}
