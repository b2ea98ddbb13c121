// Package strays keeps out whom operators have removed on a branch of the authority chain
// that does not count, until that is signed again: on the node that has seen the branch,
// and on every other to which the links of it are shown.
//
// The block is one of the guard, and stays as such. Beside it, in a file, are the links
// that prove it, to be passed on, and which of them were heeded: each once, so that a node
// that operators have let in again is not kept out by what was signed before.
package strays

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// Reason is why the guard keeps somebody out. Who is blocked for another one is no
// business of this package.
const Reason = "operators removed it, on a side that was cut off; it is to be removed again"

// removed is what takes its place when they have.
const removed = "operators removed it"

// MaxBranches is how many there are at most of which somebody is not removed again.
// Nobody but operators can make more.
const MaxBranches = 32

const maxFile = MaxBranches * (authority.MaxStray + 1<<20)

// Config says whose strays they are; all fields are required.
type Config struct {
	File  string
	Self  authority.Key
	Guard *guard.Guard
	Log   *slog.Logger

	Name   func(node string) string // of a node, by its ID
	Signed func(node string) bool   // whether the chain that counts has removed it
	Block  func(k authority.Key) string
	Alarm  func(key, text, hint string)
}

// A Store is what this node knows of such branches. Its methods may be called
// concurrently.
type Store struct {
	cfg Config

	mu  sync.Mutex
	all []branch
}

// A branch is one that does not count.
type branch struct {
	ID      [32]byte            `cbor:"1,keyasint"`
	Links   [][]byte            `cbor:"2,keyasint,omitempty"` // see [authority.Stray]
	Removed []authority.Removed `cbor:"3,keyasint"`
}

// Open reads the file, if it is there. One that cannot be read is no reason not to run:
// who is kept out stands in the guard, and the links are shown again by those who have them.
func Open(cfg Config) *Store {
	s := &Store{cfg: cfg}
	b, err := statefile.ReadSecret(cfg.File, maxFile)
	if err == nil {
		err = canon.Decode(b, &s.all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.all = nil
		cfg.Log.Error("what operators have signed on a side that does not count is not known any more, and not passed on by this node; whom it has blocked stays out", "file", cfg.File, "err", err)
	}
	return s
}

// Saw keeps out whom a branch that this node has seen itself has removed, and the chain
// that counts has not. If it is this node, it takes part no more.
func (s *Store) Saw(loses, counts *authority.Chain) {
	stray := authority.StrayOf(loses, counts)
	_, err := s.heed(stray, stray.Against(counts))
	if err = errors.Join(err, s.rejoin(loses, counts)); err != nil {
		s.cfg.Log.Error("whom operators have removed on another side is not kept out, or not for good", "err", err)
	}
}

// rejoin has what is known of branches that parted from one that gives way be such that it
// can be checked by who has never seen that.
func (s *Store) rejoin(loses, counts *authority.Chain) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, changed := slices.Clone(s.all), false
	for i, b := range all {
		all[i].Links = authority.Rejoin(b.Links, loses, counts)
		changed = changed || len(all[i].Links) != len(b.Links)
	}
	if !changed {
		return nil
	}
	return s.write(all)
}

// Take is Saw of a branch that another node shows, and of which it has to show all that
// proves it. It tells whether anybody is kept out now who was not. Nothing is said of this
// node itself: who keeps it out does not show it anything.
func (s *Store) Take(links [][]byte, counts *authority.Chain) (changed bool, err error) {
	stray, err := counts.Stray(links)
	if err != nil {
		return false, err
	}
	against := slices.DeleteFunc(stray.Against(counts), func(r authority.Removed) bool { return r.Node == s.cfg.Self })
	return s.heed(stray, against)
}

// heed blocks those who are not known to be removed by these links, and notes that.
func (s *Store) heed(stray authority.Stray, against []authority.Removed) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	against = slices.DeleteFunc(against, func(r authority.Removed) bool { return s.heeded(r.Link) })
	if len(against) == 0 {
		return false, nil
	}
	for _, r := range against {
		what := s.cfg.Block(r.Node)
		if s.cfg.Guard.Blocked(what) {
			continue
		}
		if err := s.cfg.Guard.Block("", guard.Block{What: what, Reason: Reason}); err != nil {
			return changed, fmt.Errorf("keep out %s: %w", what, err)
		}
		changed = true
		s.cfg.Log.Warn("operators removed a node on a side of the authority chain that does not count: it is kept out here", "node", r.Node.NodeID())
	}
	kept := slices.DeleteFunc(slices.Clone(s.all), func(b branch) bool { return b.within(stray) })
	if len(kept) >= MaxBranches {
		return changed, fmt.Errorf("%d branches of the authority chain do not count and have removed nodes that are still members: this one is not noted", len(kept))
	}
	// In the guard first: what is noted here is heeded no more.
	return changed, s.write(append(kept, branch{stray.ID, stray.Links, stray.Removed}))
}

// within tells whether all that a branch says is also said by a stray, which is that with
// more links.
func (b branch) within(stray authority.Stray) bool {
	for _, r := range b.Removed {
		if !slices.Contains(stray.Removed, r) {
			return false
		}
	}
	return true
}

func (s *Store) heeded(link [32]byte) bool {
	return slices.ContainsFunc(s.all, func(b branch) bool {
		return slices.ContainsFunc(b.Removed, func(r authority.Removed) bool { return r.Link == link })
	})
}

// write makes all the branches that there are, and returns when that is durable.
func (s *Store) write(all []branch) error {
	if _, err := statefile.WriteSecret(s.cfg.File, canon.Encode(all), true); err != nil {
		return fmt.Errorf("note whom operators have removed on another side: %w", err)
	}
	s.all = all
	return nil
}

// Knows tells whether this node has heeded a branch that ends with a link, by its hash.
func (s *Store) Knows(id [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heeded(id)
}

// Offered are the branches that this node shows to others: those by which it keeps
// somebody out who has not been removed again. Whom operators have let in here is kept out
// by others on the word of others.
func (s *Store) Offered(counts *authority.Chain) (ids [][32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.all {
		if counts.Meets(b.Links) && slices.ContainsFunc(b.Removed, func(r authority.Removed) bool { return s.out(r, counts) }) {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

func (s *Store) out(r authority.Removed, counts *authority.Chain) bool {
	_, is := counts.Node(r.Node)
	return is && s.cfg.Guard.Blocked(s.cfg.Block(r.Node))
}

// Links are those of a branch.
func (s *Store) Links(id [32]byte) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.all {
		if b.ID == id {
			return b.Links
		}
	}
	return nil
}

// Tidy forgets the branches of which everybody has been removed again, and says who has
// not: it is to be called when the chain has changed, or the guard.
func (s *Store) Tidy(counts *authority.Chain) {
	s.mu.Lock()
	open := slices.DeleteFunc(slices.Clone(s.all), func(b branch) bool {
		return !slices.ContainsFunc(b.Removed, func(r authority.Removed) bool { _, is := counts.Node(r.Node); return is })
	})
	if len(open) < len(s.all) {
		if err := s.write(open); err != nil {
			s.cfg.Log.Warn("what was signed on another side, and again since, is kept", "err", err)
		}
	}
	s.mu.Unlock()
	s.tell(counts)
}

// tell says who is kept out, and has not been removed since. For those who have been, the
// guard has another reason from then on.
func (s *Store) tell(counts *authority.Chain) {
	var names []string
	if s.cfg.Guard.BlocksAny() {
		for _, b := range s.cfg.Guard.Blocks() {
			key, err := authority.ParseNodeID(strings.TrimPrefix(b.What, "node "))
			if b.Reason != Reason || err != nil || key == s.cfg.Self {
				continue
			}
			if _, is := counts.Node(key); is {
				names = append(names, s.cfg.Name(key.NodeID()))
			} else if s.cfg.Signed(key.NodeID()) {
				if err := s.cfg.Guard.Explain(guard.Block{What: b.What, Reason: removed}); err != nil {
					s.cfg.Log.Warn("the guard has still the reason of before for whom it keeps out", "node", key.NodeID(), "err", err)
				}
			}
		}
	}
	if len(names) == 0 {
		s.cfg.Alarm("stray", "", "")
		return
	}
	slices.Sort(names)
	s.cfg.Alarm("stray", "operators removed "+strings.Join(names, ", ")+" on a side that was cut off, while the others signed something else: it is kept out here, and has not been removed by all",
		"remove it again: `holdfast member eject "+names[0]+"`; see docs/cluster.md")
}
