package access

import "time"

// A view is a [State] made ready for questions. It never changes.
type view struct {
	state  *State
	users  map[AuthID]User
	tokens map[AuthID]Token
	grants map[AuthID]map[string]grant // by path
}

// A grant is what the ACL entries of one user or token on one path come to.
type grant struct {
	here   Privilege // on the path itself
	below  Privilege // what paths below it start from, if passes
	passes bool      // whether an entry propagates
}

func newView(s *State) *view {
	v := &view{
		state:  s,
		users:  make(map[AuthID]User, len(s.Users)),
		tokens: make(map[AuthID]Token, len(s.Tokens)),
		grants: map[AuthID]map[string]grant{},
	}
	for _, u := range s.Users {
		v.users[u.ID] = u
	}
	for _, t := range s.Tokens {
		v.tokens[t.ID] = t
	}
	type place struct {
		id   AuthID
		path string
	}
	entries := map[place][]ACLEntry{}
	for _, e := range s.ACL {
		entries[place{e.ID, e.Path}] = append(entries[place{e.ID, e.Path}], e)
	}
	for p, list := range entries {
		if v.grants[p.id] == nil {
			v.grants[p.id] = map[string]grant{}
		}
		v.grants[p.id][p.path] = newGrant(list)
	}
	return v
}

// newGrant adds up the roles of one user on one path. NoAccess beats the
// others, among all of them and among those that propagate.
func newGrant(entries []ACLEntry) (g grant) {
	var barred, barredBelow bool
	for _, e := range entries {
		role, err := ParseRole(e.Role)
		if err != nil {
			continue // [State.Check] has refused such a state
		}
		g.here |= role.Privileges
		barred = barred || role.ID == noAccess
		if e.Propagate {
			g.passes = true
			g.below |= role.Privileges
			barredBelow = barredBelow || role.ID == noAccess
		}
	}
	if barred {
		g.here = 0
	}
	if barredBelow {
		g.below = 0
	}
	return g
}

// active tells whether id is there, enabled and not expired at now; a token
// is only as active as its user.
func (v *view) active(id AuthID, now time.Time) bool {
	if id.IsToken() {
		t, found := v.tokens[id]
		if !found || !t.Active(now) {
			return false
		}
	}
	u, found := v.users[id.User()]
	return found && u.Active(now)
}

// effective is what a user or token may do on one path.
type effective struct {
	here   Privilege // on the path
	passed Privilege // of that, what comes from entries that propagate
	below  Privilege // on a path directly below without entries of its own
}

// effective follows the algorithm of PBS protocol notes §7.1: on the way from
// "/" down to path, the entries of each node replace what was inherited.
func (v *view) effective(id AuthID, path string) effective {
	if id == Root {
		return effective{AllPrivileges, AllPrivileges, AllPrivileges}
	}
	e := v.granted(id, path)
	if id.IsToken() {
		of := v.effective(id.User(), path)
		e = effective{e.here & of.here, e.passed & of.passed, e.below & of.below}
	}
	return e
}

// granted is effective by the entries of id alone.
func (v *view) granted(id AuthID, path string) effective {
	grants := v.grants[id]
	if len(grants) == 0 {
		return effective{}
	}
	var inherited Privilege
	for p := range above(path) {
		if g, found := grants[p]; found && g.passes {
			inherited = g.below
		}
	}
	g, found := grants[path]
	switch {
	case !found:
		return effective{inherited, inherited, inherited}
	case !g.passes:
		return effective{here: g.here, below: inherited}
	}
	return effective{here: g.here, passed: g.here & g.below, below: g.below}
}

// anyBelow is the union of what id may do on path and on every path below.
// Between two paths with entries nothing changes, so looking at those, and at
// what each of them passes on, is enough.
func (v *view) anyBelow(id AuthID, path string) Privilege {
	e := v.effective(id, path)
	all := e.here | e.below
	if id == Root {
		return all
	}
	v.eachBelow(id, path, func(p string) {
		e := v.effective(id, p)
		all |= e.here | e.below
	})
	if id.IsToken() {
		v.eachBelow(id.User(), path, func(p string) {
			e := v.effective(id, p)
			all |= e.here | e.below
		})
	}
	return all
}

// eachBelow calls f with the paths below path where id has entries.
func (v *view) eachBelow(id AuthID, path string, f func(string)) {
	for p := range v.grants[id] {
		if isBelow(p, path) {
			f(p)
		}
	}
}
