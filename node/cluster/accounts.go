package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Accounts are those of the ledger, with one thing beside it: that a second
// factor was used is noted here when there is no quorum that could note it, so
// that people log in at a site that is cut off. It is told to the ledger later.
type Accounts struct {
	ledger *ledger.Accounts
	group  *consensus.Group
	view   func() ledger.View
	file   *statefile.File[uses]
	state  atomic.Pointer[accounts]

	drafted drafting
}

var _ access.Store = (*Accounts)(nil)

// uses are the second factors that were used here and not yet told.
type uses struct {
	Factors map[access.AuthID]factor.Factor `json:"factors"`
}

// accounts are those of the ledger with those uses.
type accounts struct {
	merged, ledger *access.State
	uses           *uses
}

var loginsKind = statefile.Kind[uses]{
	Name: "logins", Version: 1, Limit: 16 << 20,
	New: func() *uses { return &uses{map[access.AuthID]factor.Factor{}} },
	Clone: func(u *uses) *uses {
		c := &uses{map[access.AuthID]factor.Factor{}}
		for id, f := range u.Factors {
			c.Factors[id] = f.Clone()
		}
		return c
	},
	Tidy: func(u *uses) {
		if u.Factors == nil {
			u.Factors = map[access.AuthID]factor.Factor{}
		}
	},
	Check: func(*uses) error { return nil },
	Loss:  "one-time codes of the last minute could be used again",
}

func newAccounts(c *Cluster) (*Accounts, error) {
	file, err := statefile.Open(filepath.Join(c.cfg.Dir, loginsFile), loginsKind)
	if err != nil {
		return nil, err
	}
	return &Accounts{ledger: ledger.NewAccounts(c.client), group: c.group, view: c.ledger.View, file: file, drafted: c.drafted}, nil
}

// State returns the accounts of now. While the ledger of this node is empty,
// since it begins anew, they are what they were.
func (a *Accounts) State() *access.State {
	for {
		was, uses := a.state.Load(), a.file.State()
		if was != nil && a.view().Chain() == nil {
			return was.merged
		}
		state := a.ledger.State()
		if was != nil && was.ledger == state && was.uses == uses {
			return was.merged
		}
		now := &accounts{merge(state, uses), state, uses}
		if a.state.CompareAndSwap(was, now) {
			return now.merged
		}
	}
}

// merge returns the accounts with the uses that are about the same factors.
func merge(s *access.State, u *uses) *access.State {
	if len(u.Factors) == 0 {
		return s
	}
	s = s.Clone()
	for id, used := range u.Factors {
		if f, is := s.SecondFactors[id]; is && same(f, used) {
			f.Failures = used.Failures
			f.LastStep = max(f.LastStep, used.LastStep)
			for i, key := range used.Recovery {
				if key == "" {
					f.Recovery[i] = ""
				}
			}
			s.SecondFactors[id] = f
		}
	}
	return s
}

// same tells whether two are one factor, used or not.
func same(a, b factor.Factor) bool {
	if len(a.Recovery) != len(b.Recovery) || !bytes.Equal(a.Secret, b.Secret) {
		return false
	}
	for i := range a.Recovery {
		if a.Recovery[i] != b.Recovery[i] && a.Recovery[i] != "" && b.Recovery[i] != "" {
			return false
		}
	}
	return true
}

// loginTime is how long a login waits for a quorum: PVE gives up after 7 s.
const loginTime = 2 * time.Second

// Update changes the accounts; see [access.Store].
func (a *Accounts) Update(ctx context.Context, change func(*access.State) error) error {
	was := a.State()
	next := was.Clone()
	onDrafts := func(ctx context.Context, on *ledger.Client) error { return ledger.NewAccounts(on).Update(ctx, change) }
	if err := change(next); err != nil {
		return a.drafted(ctx, func(context.Context) error { return err }, onDrafts)
	}
	switch used := onlyUses(was, next); {
	case used == nil:
		return a.drafted(ctx, func(ctx context.Context) error { return a.ledger.Update(ctx, change) }, onDrafts)
	case len(used) == 0:
		return nil
	}
	short, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	err := a.ledger.Update(short, a.onMerged(change))
	if !errors.Is(err, consensus.ErrNoLeader) && !errors.Is(err, consensus.ErrUnknown) && !errors.Is(err, consensus.ErrStopped) && !forbidden(err) {
		return err
	}
	return a.file.Update(ctx, func(u *uses) error {
		next := merge(a.ledger.State(), u).Clone()
		if err := change(next); err != nil {
			return err
		}
		maps.Copy(u.Factors, onlyUses(merge(a.ledger.State(), u), next))
		return nil
	})
}

// forbidden tells whether this node is in a role that changes no accounts. That
// a second factor was used is then noted here alone.
func forbidden(err error) bool {
	var refused *ledger.Error
	return errors.As(err, &refused) && refused.Result.Code == ledger.Forbidden
}

// onMerged has a change see the uses of here too.
func (a *Accounts) onMerged(change func(*access.State) error) func(*access.State) error {
	return func(s *access.State) error {
		s.SecondFactors = merge(s, a.file.State()).SecondFactors
		return change(s)
	}
}

// onlyUses returns the factors that differ, perhaps none; nil if anything else
// does, or more of them than that they were used.
func onlyUses(was, next *access.State) map[access.AuthID]factor.Factor {
	a, b := was.Clone(), next.Clone()
	used := map[access.AuthID]factor.Factor{}
	for id, f := range b.SecondFactors {
		before, is := a.SecondFactors[id]
		if !is || !same(before, f) {
			return nil
		}
		if !equal(before, f) {
			used[id] = f
		}
	}
	if len(a.SecondFactors) != len(b.SecondFactors) {
		return nil
	}
	a.SecondFactors, b.SecondFactors = nil, nil
	if !equal(a, b) {
		return nil
	}
	return used
}

func equal(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y) && reflect.TypeOf(a) == reflect.TypeOf(b)
}

// tellEvery is how often the uses are offered to the ledger.
const tellEvery = 30 * time.Second

// run tells the ledger what was used here, until ctx is done.
func (a *Accounts) run(ctx context.Context) {
	every(ctx, tellEvery, func() {
		if len(a.file.State().Factors) > 0 && a.group.Status().Leader != "" {
			_ = a.tell(ctx) // again later
		}
	})
}

func (a *Accounts) tell(ctx context.Context) error {
	told := a.file.State()
	if err := a.ledger.Update(ctx, func(s *access.State) error {
		s.SecondFactors = merge(s, told).SecondFactors
		return nil
	}); err != nil {
		return err
	}
	return a.file.Update(ctx, func(u *uses) error {
		for id, f := range told.Factors {
			if equal(u.Factors[id], f) {
				delete(u.Factors, id)
			}
		}
		return nil
	})
}
