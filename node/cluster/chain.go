package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// maxChain bounds the file of the authority chain in bytes. The chain itself is
// bounded by [authority.MaxLinks].
const maxChain = 64 << 20

// readChain reads a chain and checks all of it. The links are in the file as
// they were signed, in canonical form.
func readChain(path string) (*authority.Chain, error) {
	b, err := statefile.ReadSecret(path, maxChain)
	if err != nil {
		return nil, fmt.Errorf("read the authority chain: %w", err)
	}
	chain, err := parseChain(b)
	if err != nil {
		return nil, &Error{fmt.Errorf("read the authority chain %s: %w", path, err), "restore the file from a backup of this machine, or let the node join again"}
	}
	return chain, nil
}

func parseChain(b []byte) (*authority.Chain, error) {
	var links [][]byte
	if err := canon.Decode(b, &links); err != nil {
		return nil, err
	}
	return authority.Read(links)
}

func writeChain(path string, chain *authority.Chain) error {
	if _, err := statefile.WriteSecret(path, canon.Encode(chain.Links(0)), true); err != nil {
		return fmt.Errorf("write the authority chain: %w", err)
	}
	return nil
}

// holds tells whether the first links of a chain, so many, end with head.
func holds(chain *authority.Chain, length uint64, head [32]byte) bool {
	n, h := chain.Head()
	if length == n {
		return head == h
	}
	var next authority.Link
	links := chain.Links(length)
	return len(links) > 0 && canon.Decode(links[0], &next) == nil && next.Prev == head
}

// Holds tells whether a chain has a link with the hash head.
func Holds(chain *authority.Chain, head [32]byte) bool {
	n, _ := chain.Head()
	for length := n; length > 0; length-- {
		if holds(chain, length, head) {
			return true
		}
	}
	return false
}

// ID returns which cluster the node with this directory belongs to.
func ID(dir string) ([16]byte, error) {
	chain, err := readChain(filepath.Join(dir, authorityFile))
	if err != nil {
		return [16]byte{}, err
	}
	return chain.Cluster(), nil
}

// IsMember tells whether the node with this directory belongs to a cluster, and
// whether that is all made.
func IsMember(dir string) (is, complete bool) {
	_, err := os.Stat(filepath.Join(dir, authorityFile))
	_, founding := os.Stat(filepath.Join(dir, foundingFile))
	return err == nil, err == nil && founding != nil
}

// Unsaid are the commands by which the ledger learns the links of a chain that it lacks.
func (c *Cluster) Unsaid(chain *authority.Chain, actor, source string, more ...[]byte) (commands [][]byte) {
	known, _ := c.ledger.View().Chain().Head()
	for _, l := range append(slices.Clone(chain.Links(known)), more...) {
		commands = append(commands, c.client.Command(actor, source, ledger.KindAuthority, ledger.Link{Link: l}))
	}
	return commands
}

// resume are the commands of a recovery of this node that a crash has cut short: the roster
// has its record, and the ledger has not.
func (c *Cluster) resume() [][]byte {
	if chain := c.keeper.Chain(); chain.Extends(c.ledger.View().Chain()) {
		return c.Unsaid(chain, "root@pam", "")
	}
	return nil
}
