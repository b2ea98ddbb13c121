package access

import (
	"context"
	"slices"
)

// maxEntries is how many ACL entries a user or token may have: users make
// those of their tokens.
const maxEntries = 1000

// An ACLChange sets or deletes one entry.
type ACLChange struct {
	ACLEntry
	Delete bool
	Digest string // as [State.ACLDigest]; "" does not check
}

// ACL returns what viewer may see of the entries on path and below it, or, if
// exact, on path alone; "" is the root. Without Sys.Audit on /access/acl that
// is the entries of the viewer's own tokens.
func (s *Service) ACL(viewer AuthID, path string, exact bool) ([]ACLEntry, error) {
	if path == "" {
		path = "/"
	}
	p, err := ParsePath(path)
	if err != nil {
		return nil, err
	}
	v := s.current()
	all := v.effective(viewer, "/access/acl").here.Has(PrivSysAudit)
	var list []ACLEntry
	for _, e := range v.state.ACL {
		seen := all || viewer != e.ID && viewer.Owns(e.ID)
		if seen && (e.Path == p || !exact && isBelow(e.Path, p)) {
			list = append(list, e)
		}
	}
	return list, nil
}

// ChangeACL sets an entry, or deletes it if it is there. NoAccess replaces the
// other roles of its path and any other role replaces NoAccess, since the two
// mean nothing together. It needs Permissions.Modify on /access/acl; a user
// without it may give roles to tokens of his own, which never get further than
// he does.
func (s *Service) ChangeACL(ctx context.Context, by AuthID, c ACLChange) error {
	if _, err := ParseRole(c.Role); err != nil {
		return err
	}
	privileged := s.Privileges(by, "access", "acl").Has(PrivPermissionsModify)
	if !privileged && (by.IsToken() || !c.ID.IsToken() || !by.Owns(c.ID)) {
		return &Error{Kind: ErrInvalid, Text: "Unprivileged users can only set ACL items for API tokens."}
	}
	path, err := ParsePath(c.Path)
	if err != nil {
		return err
	}
	c.Path = path
	return s.update(ctx, c.Digest, (*State).ACLDigest, func(state *State) error {
		if c.Delete {
			state.ACL = slices.DeleteFunc(state.ACL, func(e ACLEntry) bool {
				return e.Path == c.Path && e.ID == c.ID && e.Role == c.Role
			})
			return nil
		}
		return state.grant(c.ACLEntry)
	})
}

// grant adds an entry, in place of those that it replaces.
func (s *State) grant(e ACLEntry) error {
	switch {
	case e.ID.IsToken() && s.token(e.ID) == nil:
		return notFound("no such API token.")
	case !e.ID.IsToken() && s.user(e.ID) == nil:
		return notFound("no such user.")
	}
	had := 0
	s.ACL = slices.DeleteFunc(s.ACL, func(old ACLEntry) bool {
		if old.ID != e.ID {
			return false
		}
		had++
		return old.Path == e.Path && (old.Role == e.Role || (old.Role == noAccess) != (e.Role == noAccess))
	})
	if had >= maxEntries {
		return invalid("path", "'%s' has %d ACL entries, which is the limit", e.ID, had)
	}
	s.ACL = append(s.ACL, e)
	return nil
}
