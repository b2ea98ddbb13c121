package node

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/certificate"
)

// certInfo is what `cert info` prints, with the names of PBS.
type certInfo struct {
	Filename    string   `json:"filename"`
	Subject     string   `json:"subject"`
	Issuer      string   `json:"issuer"`
	SAN         []string `json:"san"`
	NotBefore   int64    `json:"notbefore"`
	NotAfter    int64    `json:"notafter"`
	KeyType     string   `json:"public-key-type"`
	Fingerprint string   `json:"fingerprint"`
}

// NewCert returns the verbs about the certificate.
func NewCert(o *cli.Options) *cobra.Command {
	return cli.Group("cert", "look at the certificate that clients see", &cobra.Command{
		Use: "info", Short: "print the certificate, its fingerprint, and what to paste on a Proxmox VE host", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := node.ReadConfig(o.Data)
			if err != nil {
				return err
			}
			file := c.Files().Chain
			leaf, err := certificate.Leaf(file)
			if err != nil {
				return err
			}
			info := certInfo{
				file, leaf.Subject.String(), leaf.Issuer.String(), certificate.Names(leaf), leaf.NotBefore.Unix(), leaf.NotAfter.Unix(),
				leaf.PublicKeyAlgorithm.String(), certificate.Fingerprint(leaf),
			}
			stores := storesOf(cmd, o)
			return o.Print(info, func(w io.Writer) {
				info.text(w)
				fmt.Fprintf(w, "\non a Proxmox VE host:\n")
				for _, store := range stores {
					fmt.Fprintf(w, "  %s\n", pvesm(c.Listen, leaf, store))
				}
			})
		},
	})
}

func (i certInfo) text(w io.Writer) {
	day := func(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04 UTC") }
	fmt.Fprintf(w, "file         %s\nsubject      %s\nissuer       %s\nnames        %s\nvalid        %s to %s\nkey          %s\nfingerprint  %s\n",
		i.Filename, i.Subject, i.Issuer, strings.Join(i.SAN, ", "), day(i.NotBefore), day(i.NotAfter), i.KeyType, i.Fingerprint)
}

// storesOf returns the names of the node's datastores, if a daemon can be asked,
// else what stands for one.
func storesOf(cmd *cobra.Command, o *cli.Options) []string {
	var list []struct {
		Store string `json:"store"`
	}
	c := daemon.Client(o)
	defer c.Close()
	if daemon.Get(cmd.Context(), c, "/admin/datastore", nil, &list) != nil || len(list) == 0 {
		return []string{"STORE"}
	}
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Store
	}
	return names
}

// pvesm returns the command that adds a datastore to a Proxmox VE host.
func pvesm(listen string, leaf *x509.Certificate, store string) string {
	host, port, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = reachable(leaf)
	}
	line := fmt.Sprintf("pvesm add pbs holdfast-%s --server %s --datastore %s --username 'backup@pbs!pve' --password SECRET --fingerprint %s",
		strings.ToLower(store), host, store, certificate.Fingerprint(leaf))
	if port != "8007" {
		line += " --port " + port
	}
	return line
}

// reachable returns an address of the certificate that others can reach, or the
// name of this machine.
func reachable(leaf *x509.Certificate) string {
	for _, ip := range leaf.IPAddresses {
		if !ip.IsLoopback() {
			return ip.String()
		}
	}
	host, _ := os.Hostname()
	return cmp.Or(host, "HOST")
}
