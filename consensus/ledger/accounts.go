package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/consensus/actor"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// Accounts is the [access.Store] of a cluster: users, tokens and the ACL are
// rows of the ledger, so that a login works at every site, also at one that is
// cut off, and a change at one site is seen at all.
type Accounts struct {
	client *Client
	state  atomic.Pointer[accounts]
}

var _ access.Store = (*Accounts)(nil)

// accounts is a state made of the rows of one view.
type accounts struct {
	*access.State
	mark     Row[Setting]      // the row that every change of accounts writes
	versions map[string]uint64 // of the rows, by table and key
}

// generationKey is a setting that every change of accounts writes, so that two
// changes which are each right cannot be wrong together: a token made for a
// user who is removed at another site.
const generationKey = "accounts"

// incomplete is the value of that row between the parts of a large change.
const incomplete = "incomplete"

// NewAccounts returns the accounts of a ledger, changed by way of client.
func NewAccounts(client *Client) *Accounts { return &Accounts{client: client} }

// State returns the accounts of now; see [access.Store].
func (a *Accounts) State() *access.State { return a.current().State }

func (a *Accounts) current() *accounts {
	v := a.client.Ledger.View()
	mark, _ := Settings.Get(v, generationKey)
	was := a.state.Load()
	if was != nil && was.mark.Same(mark) {
		return was
	}
	now := readAccounts(v, mark)
	if a.state.CompareAndSwap(was, now) {
		return now
	}
	return a.current() // somebody else has made the same, or a newer one
}

func readAccounts(v View, mark Row[Setting]) *accounts {
	s := &access.State{Passwords: map[access.AuthID]access.Password{}, TokenSums: map[access.AuthID]string{}, SecondFactors: map[access.AuthID]factor.Factor{}}
	all := &accounts{s, mark, map[string]uint64{}}
	for key, u := range Users.All(v) {
		all.versions[place(Users.number, key)] = u.Version
		s.Users = append(s.Users, u.Body.User)
		if u.Body.Password != nil {
			s.Passwords[u.Body.ID] = *u.Body.Password
		}
		if u.Body.Factor != nil {
			s.SecondFactors[u.Body.ID] = *u.Body.Factor
		}
	}
	if len(s.Users) == 0 { // root@pam is always there
		s.Users = []access.User{{ID: access.Root}}
	}
	for key, t := range Tokens.All(v) {
		all.versions[place(Tokens.number, key)] = t.Version
		s.Tokens = append(s.Tokens, t.Body.Token)
		if t.Body.Sum != "" {
			s.TokenSums[t.Body.ID] = t.Body.Sum
		}
	}
	for key, e := range ACL.All(v) {
		all.versions[place(ACL.number, key)] = e.Version
		s.ACL = append(s.ACL, e.Body)
	}
	all.State = s.Clone() // sorted as every state is
	return all
}

// rows returns what a state is in the ledger, by table and key.
func accountRows(s *access.State) map[string]Op {
	rows := map[string]Op{}
	add := func(o Op) { rows[place(o.Table, o.Key)] = o }
	for _, u := range s.Users {
		row := User{User: u}
		if p, is := s.Passwords[u.ID]; is {
			row.Password = &p
		}
		if f, is := s.SecondFactors[u.ID]; is {
			row.Factor = &f
		}
		add(Users.Put(string(u.ID), 0, row))
	}
	for _, t := range s.Tokens {
		add(Tokens.Put(string(t.ID), 0, Token{t, s.TokenSums[t.ID]}))
	}
	for _, e := range s.ACL {
		add(ACL.Put(e.Path+"\x00"+string(e.ID)+"\x00"+e.Role, 0, e))
	}
	return rows
}

// maxTries bounds how often a change is made again because somebody else was
// faster.
const maxTries = 8

// Update changes the accounts; see [access.Store].
func (a *Accounts) Update(ctx context.Context, change func(*access.State) error) error {
	for try := 1; ; try++ {
		err := a.update(ctx, change)
		var refused *Error
		if !errors.As(err, &refused) || refused.Result.Code != Conflict || try == maxTries {
			return err
		}
	}
}

func (a *Accounts) update(ctx context.Context, change func(*access.State) error) error {
	was := a.current()
	next := was.State.Clone()
	if err := change(next); err != nil {
		return err
	}
	next = next.Clone() // tidy
	if err := next.Check(); err != nil {
		return err
	}
	ops := was.diff(next)
	if len(ops) == 0 {
		return nil
	}
	for generation := was.mark.Version; len(ops) > 0; { // more than fits in one command only when accounts are taken over
		n := fitting(ops)
		mark := Setting{}
		if n < len(ops) {
			mark.Value = incomplete
		}
		part := append(slices.Clone(ops[:n]), Settings.Put(generationKey, generation, mark))
		r, err := a.client.Do(ctx, actor.Of(ctx), actor.Address(ctx), KindChange, Change{Ops: part})
		if err != nil {
			return fmt.Errorf("change accounts: %w", err)
		}
		generation, ops = r.Index, ops[n:]
	}
	return nil
}

// fitting returns how many of the changes fit in a command.
func fitting(ops []Op) int {
	size := 1000
	for i, o := range ops {
		if size += len(canon.Encode(o)); i == maxOps-1 || size > maxBody {
			return max(i, 1)
		}
	}
	return len(ops)
}

// diff returns what has to change in the ledger: users before their tokens
// when they come, in the order of tables and keys.
func (was *accounts) diff(next *access.State) (ops []Op) {
	old, new := accountRows(was.State), accountRows(next)
	all := maps.Clone(old)
	maps.Copy(all, new)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		o, is := new[key]
		before, had := old[key]
		version := was.versions[key]
		switch {
		case !is && version != 0:
			ops = append(ops, Op{Table: before.Table, Key: before.Key, Expect: version, Delete: true})
		case is && (!had || version == 0 || string(before.Body) != string(o.Body)):
			o.Expect = version
			ops = append(ops, o)
		}
	}
	return ops
}

// TakeOver fills a ledger without accounts with those of a node's own file. It
// does nothing if there are any, so that it can be repeated, and two nodes can
// not both do it; it goes on where a crash ended it.
func (a *Accounts) TakeOver(ctx context.Context, from *access.State) error {
	v := a.client.Ledger.View()
	if mark, _ := Settings.Get(v, generationKey); v.Count(Users.number) > 0 && mark.Body.Value != incomplete {
		return nil
	}
	return a.update(ctx, func(s *access.State) error {
		*s = *from.Clone()
		return nil
	})
}
