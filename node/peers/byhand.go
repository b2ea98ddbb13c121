package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

const (
	byHandFile = "addresses.json"
	maxByHand  = 4 // addresses of a node
)

// byHand is where nodes are, as an operator of this machine has said: for nodes
// that moved while nobody reached them, so that nobody has heard their new record.
// It is kept in a file, which Set has synced when it returns.
type byHand struct {
	path string

	mu sync.Mutex
	at map[string][]netip.AddrPort
}

func openByHand(dir string) (*byHand, error) {
	b := &byHand{path: filepath.Join(dir, byHandFile), at: map[string][]netip.AddrPort{}}
	text, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &b.at)
	}
	if err != nil {
		return nil, fmt.Errorf("addresses of nodes that were given by hand: %s: %w", b.path, err)
	}
	return b, nil
}

func (b *byHand) get(node string) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.at[node])
}

func (b *byHand) set(node string, at []netip.AddrPort) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(b.at)
	delete(next, node)
	if len(at) > 0 {
		next[node] = at
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.WriteFileAtomic(disk.OS{}, b.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	b.at = next
	return nil
}

// ByHand returns where this node looks for another beside what that has said of
// itself.
func (l *Link) ByHand(node string) []netip.AddrPort { return l.byHand.get(node) }

// SetByHand has this node look for another at these addresses too, from now on and
// after restarts; none: no longer. They are of the mesh port, for UDP and TCP. Who
// answers there has to prove that it is that node.
func (l *Link) SetByHand(node string, at []netip.AddrPort) error {
	if len(at) > maxByHand {
		return fmt.Errorf("%d addresses of a node, want at most %d", len(at), maxByHand)
	}
	for _, a := range at {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return fmt.Errorf("%q is no address of a mesh port, want ADDRESS:PORT", a)
		}
	}
	if err := l.byHand.set(node, at); err != nil {
		return err
	}
	l.Follow()
	return nil
}

// texts are addresses as libp2p has them.
func texts(at []netip.AddrPort) (all []string) {
	for _, a := range at {
		all = append(all, quicAt(a), tcpAt(a))
	}
	return all
}
