// Package node has the verbs about the node on this machine: make it, run it,
// look at it.
package node

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/member"
	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/certificate"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// New returns the verbs about the node itself.
func New(o *cli.Options, version string) *cobra.Command {
	return cli.Group("node", "make and run the node of this machine", newInit(o), newJoin(o, version), newRun(o, version), member.NewBlock(o), newRotate(o), newSeen(o))
}

func newSeen(o *cli.Options) *cobra.Command {
	return daemon.Verb{
		Use: "seen", Short: "say that you have looked at what this node shows as CRITICAL", Method: http.MethodDelete, Path: "/holdfast/alarms",
		Long: `What has happened to a node, such as that its disk went back, is shown by the status of
every node until somebody says that on it, or for seven days. It changes nothing else. What
is still so is shown again.`,
		Done: "what has happened to this node is shown no more",
	}.Command(o)
}

func newRotate(o *cli.Options) *cobra.Command {
	return daemon.Verb{
		Use: "rotate-keys", Short: "change the key that this node has in the tunnel to the others", Method: http.MethodPost, Path: "/holdfast/keys",
		Long: `All members learn the new key first, so no connection is cut; it is in use after some
seconds, or ten minutes if a member cannot be told. Who is away learns it when it is
back. The daemon does the same every thirty days. Nothing else changes: a node is known
by another key.`,
		Done: "the key of the tunnel is being changed; `holdfast member show` shows those of a member",
	}.Command(o)
}

// made is what `node init` prints.
type made struct {
	Dir         string   `json:"dir"`
	Name        string   `json:"name"`
	Site        string   `json:"site"`
	Listen      string   `json:"listen"`
	Fingerprint string   `json:"fingerprint"`
	Names       []string `json:"names"` // that the certificate is for
	Operator    string   `json:"operator-key"`
	Recovery    string   `json:"recovery-key"` // shown once, and stored nowhere
}

func newInit(o *cli.Options) *cobra.Command {
	c := node.Config{}
	cmd := &cobra.Command{
		Use: "init", Short: "make the node of this machine, and a cluster that begins with it", Args: cli.NoArgs,
		Long: `It makes the directory that --data names, /var/lib/holdfast unless it says
otherwise. Run it as root or as the user that will run the daemon; what root makes
in a directory of another user belongs to that user.

The node is the first of a new cluster. To bring a machine into a cluster that is
there, use node join instead.`,
		Example: "  holdfast node init --name home --site home",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Name == "" {
				host, _ := os.Hostname()
				return cli.Usage(fmt.Errorf("--name is missing: what is this node called? Perhaps %q", host))
			}
			if c.Site == "" {
				c.Site = c.Name
			}
			dir, err := filepath.Abs(o.Data)
			if err != nil {
				return err
			}
			recovery, text, err := keyfile.Paper()
			if err != nil {
				return err
			}
			c.Dir, c.Recovery = dir, recovery.Public().(ed25519.PublicKey)
			if err := node.Init(c); err != nil {
				return err
			}
			return printMade(o, dir, text)
		},
	}
	addFlags(cmd, &c)
	return cmd
}

// addFlags adds what a new node is made of.
func addFlags(cmd *cobra.Command, c *node.Config) {
	flags := cmd.Flags()
	flags.StringVar(&c.Name, "name", "", "what the node is called, such as home")
	flags.StringVar(&c.Site, "site", "", "where it is: what burns down together; default: its name")
	flags.StringVar(&c.Listen, "listen", ":8007", "address for clients of Proxmox Backup Server")
	flags.StringVar(&c.MeshListen, "mesh-listen", ":51820", "address for other sites, UDP and TCP; with an IP address, only that one is bound")
}

func printMade(o *cli.Options, dir, recovery string) error {
	c, err := node.ReadConfig(dir)
	if err != nil {
		return err
	}
	leaf, err := certificate.Leaf(c.Files().Chain)
	if err != nil {
		return err
	}
	m := made{dir, c.Name, c.Site, c.Listen, certificate.Fingerprint(leaf), certificate.Names(leaf), filepath.Join(dir, node.OperatorFile), recovery}
	return o.Print(m, func(w io.Writer) {
		data := ""
		if o.Data != cli.DefaultData {
			data = " --data " + o.Data
		}
		fmt.Fprintf(w, `node %s at site %s is made in %s
fingerprint of its certificate: %s

The operator's key says who belongs to the cluster that begins with this node:
  %[6]s
Copy it to a safe place off this machine, and remove it here when no node is to be
added soon. On the day when it or most nodes are lost, this recovery key helps. It is
stored nowhere: print it, and keep it with the other.
  %[7]s

next:
  holdfast node run%[5]s        # or: systemctl enable --now holdfast
  holdfast datastore create main --path /srv/backup%[5]s
  holdfast user create backup@pbs%[5]s
  holdfast acl update /datastore/main DatastoreBackup --auth-id backup@pbs%[5]s
  holdfast user generate-token backup@pbs pve%[5]s
  holdfast acl update /datastore/main DatastoreBackup --auth-id 'backup@pbs!pve'%[5]s
  holdfast cert info%[5]s       # what to paste on a Proxmox VE host
`, m.Name, m.Site, m.Dir, m.Fingerprint, data, m.Operator, m.Recovery)
	})
}

func newRun(o *cli.Options, version string) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "run the node of this machine until SIGTERM", Args: cli.NoArgs,
		Long: `It answers clients until SIGTERM or SIGINT ends it, within seconds: backups that
run are cut off, and leave nothing but chunks. A second one ends it at once, as a
power cut would: no finished snapshot is lost by that either. SIGHUP has it read
the certificate and the level of the log again.`,
		Example: "  holdfast node run --data /srv/holdfast",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(o.Data)
			if err != nil {
				return err
			}
			c, err := node.ReadConfig(dir)
			if err != nil {
				return err
			}
			c.Version, c.Getenv = version, o.Getenv
			c.LogTo(o.Err)
			if o.Getenv("GOMEMLIMIT") == "" {
				// What bounds one backup would have the collector of garbage do
				// nothing else once there are some: sessions have bounds of their own.
				debug.SetMemoryLimit(math.MaxInt64)
			}
			hup := make(chan os.Signal, 1) // from now on: a reload that comes early ends nothing
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			n, err := node.New(c)
			if err != nil {
				return err
			}
			ctx, end := context.WithCancel(cmd.Context())
			reloads := make(chan struct{})
			go func() {
				defer close(reloads)
				reloadAt(ctx, hup, n)
			}()
			err = n.Run(ctx)
			end()
			<-reloads
			return err
		},
	}
}

// reloadAt has the node read its files again at each signal, until ctx ends.
func reloadAt(ctx context.Context, hup <-chan os.Signal, n *node.Node) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			_ = n.Reload() // the log says it, and what was good goes on
		}
	}
}
