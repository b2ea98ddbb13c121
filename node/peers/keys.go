package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// The key of the tunnel is changed so that no peer is cut off: the record of
// this node names the next key beside the one in use; when all members that can
// be reached have that record, the next one is used; and the one before is named
// for a while, since sessions with it go on. Who was away then has the new record
// by libp2p, which knows nodes by another key.
const (
	keyAge     = 30 * 24 * time.Hour // after which a key is changed
	keySettles = 10 * time.Second    // for which a key is named before it is used, at least
	keyMost    = 10 * time.Minute    // and if somebody is not told, at most
	keyRetires = 5 * time.Minute     // for which the one before is named
)

// ErrChanging says that the key of the tunnel is about to be another one already.
var ErrChanging = errors.New("the key of the tunnel is being changed already")

// keys are those of this node in the tunnel. In files:
//
//	wireguard.key   in use
//	wireguard.next  named, and not used yet
type keys struct {
	dir string

	mu      sync.Mutex
	private tunnel.PrivateKey
	next    *tunnel.PrivateKey
	before  *tunnel.PublicKey
	made    time.Time // when private was
	named   time.Time // since when members can know of next; zero: they cannot
	used    time.Time // since when private is used instead of before
}

// openKeys reads the keys, or makes the first. A change that was cut short goes
// on from where members may not have been told.
func openKeys(dir string) (*keys, error) {
	k := &keys{dir: dir}
	var err error
	if k.private, err = readKey(filepath.Join(dir, wireGuardFile)); errors.Is(err, fs.ErrNotExist) {
		k.private = tunnel.NewPrivateKey()
		_, err = statefile.WriteSecret(filepath.Join(dir, wireGuardFile), k.private[:], true)
	}
	if err != nil {
		return nil, fmt.Errorf("the key of the tunnel: %w", err)
	}
	info, err := os.Stat(filepath.Join(dir, wireGuardFile))
	if err != nil {
		return nil, fmt.Errorf("the key of the tunnel: %w", err)
	}
	k.made = info.ModTime()
	switch next, err := readKey(filepath.Join(dir, nextFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the next key of the tunnel: %w", err)
	case next != k.private: // else it came into use, and the crash came then
		k.next = &next
	}
	return k, nil
}

func readKey(path string) (tunnel.PrivateKey, error) {
	b, err := statefile.ReadSecret(path, 1024)
	if err == nil && len(b) != len(tunnel.PrivateKey{}) {
		err = fmt.Errorf("%s has %d bytes", path, len(b))
	}
	if err != nil {
		return tunnel.PrivateKey{}, err
	}
	return tunnel.PrivateKey(b), nil
}

// public are the keys that the record of this node names, the newest first.
func (k *keys) public() [][32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch now := [32]byte(k.private.Public()); {
	case k.next != nil:
		return [][32]byte{[32]byte(k.next.Public()), now}
	case k.before != nil:
		return [][32]byte{now, [32]byte(*k.before)}
	default:
		return [][32]byte{now}
	}
}

// begin makes the next key.
func (k *keys) begin() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next != nil || k.before != nil {
		return ErrChanging
	}
	next := tunnel.NewPrivateKey()
	if _, err := statefile.WriteSecret(filepath.Join(k.dir, nextFile), next[:], true); err != nil {
		return fmt.Errorf("make the next key of the tunnel: %w", err)
	}
	k.next, k.named = &next, time.Time{}
	return nil
}

// published notes that members can have the record that names all keys.
func (k *keys) published(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next != nil && k.named.IsZero() {
		k.named = now
	}
}

// step does what is due. told tells whether all members that can be reached have
// a record of this node from after a time, and use has the tunnel use a key.
func (k *keys) step(now time.Time, told func(since time.Time) bool, use func(tunnel.PrivateKey) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.before != nil && now.Sub(k.used) >= keyRetires {
		k.before = nil
	}
	if k.next == nil || k.named.IsZero() || now.Sub(k.named) < keySettles || now.Sub(k.named) < keyMost && !told(k.named) {
		return nil
	}
	next, before := *k.next, k.private.Public()
	if err := use(next); err != nil {
		return err
	}
	if _, err := statefile.WriteSecret(filepath.Join(k.dir, wireGuardFile), next[:], true); err != nil {
		return fmt.Errorf("keep the new key of the tunnel: %w", err) // it is in use, and tried again
	}
	k.private, k.next, k.before, k.made, k.used = next, nil, &before, now, now
	if err := os.Remove(filepath.Join(k.dir, nextFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key of the tunnel is changed: %w", err)
	}
	return nil
}

// old tells whether the key is to be changed by its age.
func (k *keys) old(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.next == nil && k.before == nil && now.Sub(k.made) >= keyAge
}

// RotateKeys begins to change the key of this node in the tunnel, which takes
// some seconds if all members can be reached.
func (l *Link) RotateKeys() error {
	if err := l.keys.begin(); err != nil {
		return err
	}
	l.cfg.Log.Info("the key of the tunnel is being changed")
	l.kick()
	return nil
}

// rotate changes the key of this node step by step.
func (l *Link) rotate(now time.Time) error {
	if l.keys.old(now) {
		if err := l.RotateKeys(); err != nil {
			return err
		}
	}
	return l.keys.step(now, l.told, func(key tunnel.PrivateKey) error {
		err := l.tunnel.Rotate(key)
		if err == nil {
			l.cfg.Log.Info("the key of the tunnel is changed", "key", tunnel.PublicKey(key.Public()))
		}
		return err
	})
}

// told tells whether the roster was compared with all that are connected since.
func (l *Link) told(since time.Time) bool {
	_, left := l.Told(since)
	return left == 0
}

// Told returns who knows what this node knew at a time of who belongs to the cluster,
// and how many of those that are connected do not yet.
func (l *Link) Told(since time.Time) (nodes []string, left int) {
	for _, node := range l.connected() {
		if l.syncer.Compared(node).After(since) {
			nodes = append(nodes, node)
		} else {
			left++
		}
	}
	return nodes, left
}

// Keys are the public keys of a node in the tunnel, the newest first, as it has
// signed them.
func (l *Link) Keys(node string) (all []string) {
	for _, r := range l.records.All() {
		if r, err := r.Open(); err == nil && r.Node.NodeID() == node {
			for _, k := range r.WireGuard {
				all = append(all, tunnel.PublicKey(k).String())
			}
		}
	}
	return all
}
