package home

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// maxChain bounds the file of the authority chain in bytes. The chain itself is
// bounded by [authority.MaxLinks].
const maxChain = 64 << 20

// ReadChain reads a chain and checks all of it. The links are in the file as
// they were signed, in canonical form.
func ReadChain(path string) (*authority.Chain, error) {
	b, err := statefile.ReadSecret(path, maxChain)
	if err != nil {
		return nil, fmt.Errorf("read the authority chain: %w", err)
	}
	chain, err := ParseChain(b)
	if err != nil {
		return nil, &Error{fmt.Errorf("read the authority chain %s: %w", path, err), "restore the file from a backup of this machine, or let the node join again"}
	}
	return chain, nil
}

// ParseChain reads a chain from the content of its file.
func ParseChain(b []byte) (*authority.Chain, error) {
	var links [][]byte
	if err := canon.Decode(b, &links); err != nil {
		return nil, err
	}
	return authority.Read(links)
}

// WriteChain makes a chain durable in a file.
func WriteChain(path string, chain *authority.Chain) error {
	if _, err := statefile.WriteSecret(path, canon.Encode(chain.Links(0)), true); err != nil {
		return fmt.Errorf("write the authority chain: %w", err)
	}
	return nil
}

// HoldsAt tells whether the first links of a chain, so many, end with head.
func HoldsAt(chain *authority.Chain, length uint64, head [32]byte) bool {
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
		if HoldsAt(chain, length, head) {
			return true
		}
	}
	return false
}
