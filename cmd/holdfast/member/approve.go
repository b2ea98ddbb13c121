package member

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/operator"
)

func newApprove(o *cli.Options) *cobra.Command {
	s := &signer{o: o}
	var role string
	cmd := &cobra.Command{
		Use: "approve MEMBER", Short: "let a machine in that waits for approval", Args: cli.Exactly(1),
		Long: `Compare its identity, the id in holdfast member show, with what holdfast node join
printed on the machine: whoever got hold of the token would show another one.`,
		Example: "  holdfast member list\n  holdfast member approve nas --role full",
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := s.keys()
			if err != nil {
				return err
			}
			c := daemon.Client(o)
			defer c.Close()
			params := url.Values{"member": args, "approve": {"1"}}
			if role != "" {
				params.Set("role", role)
			}
			if _, err := s.call(cmd.Context(), c, keys, operator.Change, http.MethodPut, memberPath, params); err != nil {
				return err
			}
			return o.Print(map[string]string{"approved": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "member %s takes part\n", args[0]) })
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "the role that it gets; default: that of its invite")
	s.flag(cmd)
	return cmd
}
