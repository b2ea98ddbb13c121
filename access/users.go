package access

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access/factor"
)

// A UserChange says what to change of a user: what is not nil.
type UserChange struct {
	Comment, FirstName, LastName, Email *string
	Enable                              *bool
	Expire                              *int64 // Unix seconds; 0: never
	Digest                              string // as [State.UsersDigest]; "" does not check
}

// User returns the user id, or [ErrNotFound].
func (s *Service) User(id AuthID) (User, error) {
	u, found := s.current().users[id]
	if !found {
		return User{}, noSuchUser(id)
	}
	return u, nil
}

// Users returns what viewer may see of the users: himself, or all with
// Sys.Audit on /access/users.
func (s *Service) Users(viewer AuthID) []User {
	v := s.current()
	all := v.effective(viewer, "/access/users").here.Has(PrivSysAudit)
	var list []User
	for _, u := range v.state.Users {
		if all || u.ID == viewer.User() {
			list = append(list, u)
		}
	}
	return list
}

// AddUser makes a user. Without a password the user cannot log in, only the
// user's tokens can.
func (s *Service) AddUser(ctx context.Context, u User, password string) error {
	if err := u.check(); err != nil {
		return err
	}
	var p Password
	if password != "" {
		var err error
		if p, err = s.hashPassword(ctx, u.ID, password); err != nil {
			return err
		}
	}
	return s.store.Update(ctx, func(state *State) error {
		if state.user(u.ID) != nil {
			return alreadyThere("user '%s' already exists.", u.ID)
		}
		state.Users = append(state.Users, u)
		if password != "" {
			state.Passwords[u.ID] = p
		}
		return nil
	})
}

// ChangeUser changes a user.
func (s *Service) ChangeUser(ctx context.Context, id AuthID, c UserChange) error {
	return s.update(ctx, c.Digest, (*State).UsersDigest, func(state *State) error {
		u := state.user(id)
		if u == nil {
			return noSuchUser(id)
		}
		set(&u.Comment, c.Comment)
		set(&u.FirstName, c.FirstName)
		set(&u.LastName, c.LastName)
		set(&u.Email, c.Email)
		set(&u.Expire, c.Expire)
		if c.Enable != nil {
			u.Disabled = !*c.Enable
		}
		return u.check()
	})
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// RemoveUser removes a user with everything that is the user's: password,
// second factor, tokens and ACL entries. A user made anew under that name
// starts with nothing.
func (s *Service) RemoveUser(ctx context.Context, id AuthID, digest string) error {
	if id == Root {
		return invalid("userid", "user 'root@pam' cannot be removed")
	}
	return s.update(ctx, digest, (*State).UsersDigest, func(state *State) error {
		if state.user(id) == nil {
			return notFound("user '%s' does not exist.", printable(string(id)))
		}
		state.Users = slices.DeleteFunc(state.Users, func(u User) bool { return u.ID == id })
		state.Tokens = slices.DeleteFunc(state.Tokens, func(t Token) bool { return t.ID.User() == id })
		state.ACL = slices.DeleteFunc(state.ACL, func(e ACLEntry) bool { return e.ID.User() == id })
		maps.DeleteFunc(state.TokenSums, func(t AuthID, _ string) bool { return t.User() == id })
		delete(state.Passwords, id)
		delete(state.SecondFactors, id)
		return nil
	})
}

// SetPassword gives a user of the realm pbs a password. Tickets from before
// are of no use any more; tokens go on working.
func (s *Service) SetPassword(ctx context.Context, id AuthID, password string) error {
	if _, err := s.User(id); err != nil {
		return err
	}
	p, err := s.hashPassword(ctx, id, password)
	if err != nil {
		return err
	}
	return s.store.Update(ctx, func(state *State) error {
		if state.user(id) == nil {
			return noSuchUser(id)
		}
		state.Passwords[id] = p
		return nil
	})
}

func (s *Service) hashPassword(ctx context.Context, id AuthID, password string) (Password, error) {
	if id.Realm() != realmPBS {
		return Password{}, &Error{
			Kind: ErrInvalid, Param: "password", Text: "users of realm " + singleQuote(id.Realm()) + " have no password here",
			Cure: "root@pam logs in on the machine itself; use a user of the realm pbs or an API token elsewhere",
		}
	}
	if err := checkPassword(password); err != nil {
		return Password{}, err
	}
	var p Password
	err := s.hashing(ctx, func() { p = newPassword(password, time.Now()) })
	return p, err
}

// SetTOTP gives a user a second factor: secret is as [factor.NewSecret] made it
// or as an authenticator shows it, code what the authenticator made of it,
// which proves that it will work. It replaces an older one. The result are
// recovery keys, each good for one login, which are not shown again.
func (s *Service) SetTOTP(ctx context.Context, id AuthID, secret, code string) ([]string, error) {
	b, err := factor.ParseSecret(secret)
	if err != nil {
		return nil, invalid("totp", "%v", err)
	}
	if id.Realm() != realmPBS {
		return nil, invalid("userid", "only users of realm 'pbs' have a second factor")
	}
	keys, sums := factor.NewRecovery(string(id))
	f := factor.Factor{Secret: b, Recovery: sums}
	if f.TryCode(code, time.Now()) != nil {
		return nil, &Error{
			Kind: ErrInvalid, Param: "value", Text: "the one-time code does not fit the secret",
			Cure: "check that the clocks of this machine and of the authenticator are right",
		}
	}
	return keys, s.store.Update(ctx, func(state *State) error {
		if state.user(id) == nil {
			return noSuchUser(id)
		}
		state.SecondFactors[id] = f.Clone()
		return nil
	})
}

// NewRecoveryKeys replaces the recovery keys of a user with a second factor.
func (s *Service) NewRecoveryKeys(ctx context.Context, id AuthID) ([]string, error) {
	keys, sums := factor.NewRecovery(string(id))
	return keys, s.changeFactor(ctx, id, func(f *factor.Factor) { f.Recovery = slices.Clone(sums) })
}

// UnlockTOTP lets a user's codes be tried again: after too many wrong ones, or
// if codes are taken for old because a clock was ahead when one was used.
func (s *Service) UnlockTOTP(ctx context.Context, id AuthID) error {
	return s.changeFactor(ctx, id, func(f *factor.Factor) { f.Failures, f.LastStep = 0, 0 })
}

// RemoveTOTP makes the password enough again. The recovery keys go too.
func (s *Service) RemoveTOTP(ctx context.Context, id AuthID) error {
	return s.store.Update(ctx, func(state *State) error {
		if _, found := state.SecondFactors[id]; !found {
			return noSecondFactor(id)
		}
		delete(state.SecondFactors, id)
		return nil
	})
}

func (s *Service) changeFactor(ctx context.Context, id AuthID, change func(*factor.Factor)) error {
	return s.store.Update(ctx, func(state *State) error {
		f, found := state.SecondFactors[id]
		if !found {
			return noSecondFactor(id)
		}
		change(&f)
		state.SecondFactors[id] = f
		return nil
	})
}

func noSuchUser(id AuthID) error { return notFound("no such user '%s'", printable(string(id))) }

func noSecondFactor(id AuthID) error {
	return notFound("user '%s' has no second factor", printable(string(id)))
}

// user returns the user to be changed, nil if there is none.
func (s *State) user(id AuthID) *User {
	i := slices.IndexFunc(s.Users, func(u User) bool { return u.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Users[i]
}
