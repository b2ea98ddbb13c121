// Package access knows who may do what: users, API tokens, roles, the access
// control list, tickets, and the second factor.
//
// It is exactly what a Proxmox Backup Server has, as far as a client can see
// (PBS protocol notes §0.4, §0.5, §1.2, §1.3, §7.1, §7.2), so that a client
// logs in as it always did. It knows nothing of HTTP but the text of headers,
// and nothing of datastores but their paths: who serves a request asks
// [Service.Check] who sent it and [Service.Require] whether that one may.
//
// Users of the realm pbs have a password (argon2id) and perhaps a second
// factor (TOTP with recovery keys). The realm pam has only root@pam, who has
// no password and gets a ticket over the local admin socket. What is known of
// accounts is one [State] in a [Store]; every question is answered from an
// immutable copy of it, so that requests wait neither for each other nor for
// a change being written.
//
// A refused login or request is answered after [RefusalDelay], whatever was
// wrong with it, and logins that keep failing are refused unseen for a while.
package access

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/access/limit"
)

const (
	// RefusalDelay is when a refused login or request is answered, counted
	// from its start (PBS protocol notes §0.4). PVE gives up after 7 s.
	RefusalDelay = 3 * time.Second

	// ForbiddenDelay is the same for a request of somebody known who lacks
	// the privilege for the whole endpoint. It is the caller who waits, with
	// [Hold]; refusals from inside a handler are not delayed.
	ForbiddenDelay = 500 * time.Millisecond
)

// Hold waits until delay has passed since start, or ctx is done.
func Hold(ctx context.Context, start time.Time, delay time.Duration) { limit.Hold(ctx, start, delay) }

// Config says what a [Service] works with.
type Config struct {
	Store Store // required
	Key   *Key  // required; see [OpenKey]
}

// A Service answers every question of access. Its methods may be called
// concurrently.
type Service struct {
	store  Store
	key    *Key
	view   atomic.Pointer[view]
	limits *limit.Limiter
	hashes *limit.Queue
}

// New returns a Service. It starts nothing.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("access: no store")
	case cfg.Key == nil:
		return nil, errors.New("access: no key")
	}
	return &Service{store: cfg.Store, key: cfg.Key, limits: limit.New(), hashes: limit.NewQueue(hashesAtOnce, hashesWaiting)}, nil
}

// current returns the newest state, ready for questions.
func (s *Service) current() *view {
	state := s.store.State()
	if v := s.view.Load(); v != nil && v.state == state {
		return v
	}
	v := newView(state) // by two at once after a change, at worst
	s.view.Store(v)
	return v
}

// State returns the newest state, which nobody may change.
func (s *Service) State() *State { return s.store.State() }

// Active tells whether id exists and is neither disabled nor expired, nor, if
// it is a token, its user.
func (s *Service) Active(id AuthID) bool { return s.current().active(id, time.Now()) }

// Privileges returns what id may do on a path, given as components any of
// which may be empty or have slashes in it: "datastore", store, namespace. A
// disabled account has the privileges it would have: it cannot log in.
func (s *Service) Privileges(id AuthID, path ...string) Privilege {
	return s.current().effective(id, joinPath(path...)).here
}

// AnyBelow returns everything that id may do somewhere on path or below it:
// a datastore is listed for whoever may do something in one of its namespaces.
func (s *Service) AnyBelow(id AuthID, path ...string) Privilege {
	return s.current().anyBelow(id, joinPath(path...))
}

// Require returns nil if id has at least one privilege of any on path, else
// [ErrForbidden] with the message of a real server.
func (s *Service) Require(id AuthID, any Privilege, path ...string) error {
	p := joinPath(path...)
	if s.current().effective(id, p).here.HasAny(any) {
		return nil
	}
	return &Error{
		Kind: ErrForbidden, Text: "permission check failed - missing " + any.String() + " on " + p,
		Reason: string(id) + " lacks " + any.String() + " on " + p,
	}
}

// Permissions returns for each path the privileges that viewer asks about, of
// id, and whether they propagate. With a path it is about that one, else about
// the top of the tree and every path with an entry. Paths without privileges
// are left out. Somebody else's permissions are shown to the user of a token
// and to who has Sys.Audit on /access.
func (s *Service) Permissions(viewer, id AuthID, path string) (map[string]map[string]bool, error) {
	v := s.current()
	auditor := v.effective(viewer, "/access").here.Has(PrivSysAudit)
	if !auditor && !viewer.Owns(id) {
		return nil, &Error{Kind: ErrInvalid, Text: "not allowed to list permissions of " + printable(string(id))}
	}
	paths := []string{"/", "/access", "/datastore", "/remote", "/system"}
	if path != "" {
		p, err := ParsePath(path)
		if err != nil {
			return nil, err
		}
		paths = []string{p}
	} else {
		for _, e := range v.state.ACL {
			paths = append(paths, e.Path)
		}
	}
	all := map[string]map[string]bool{}
	for _, p := range paths {
		e := v.effective(id, p)
		if e.here == 0 || all[p] != nil {
			continue
		}
		all[p] = map[string]bool{}
		for i, name := range privilegeNames {
			if e.here.Has(1 << i) {
				all[p][name] = e.passed.Has(1 << i)
			}
		}
	}
	return all, nil
}

// update changes the state, having checked that it is the one that digest, if
// not "", was made of.
func (s *Service) update(ctx context.Context, digest string, of func(*State) string, change func(*State) error) error {
	return s.store.Update(ctx, func(state *State) error {
		if digest != "" && !strings.EqualFold(digest, of(state)) {
			return &Error{
				Kind: ErrModified, Param: "digest",
				Text: "detected modified configuration - file changed by other user? Try again.",
			}
		}
		return change(state)
	})
}
