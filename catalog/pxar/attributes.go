package pxar

import (
	"bytes"
	"math"
	"slices"
)

// attributes reads the items between an entry item and what follows them, in
// whatever order they come (§1.1).
func (s *scanner) attributes(m *Metadata) error {
	total := int64(0)
	for {
		h, err := s.peek()
		if err != nil {
			return endOfNode(err)
		}
		if !isAttribute(h.typ) {
			return nil
		}
		s.have = false
		if total += headerSize + h.length; total > maxAttributes {
			return malformed(h.at, "attributes of an entry take more than %d bytes", maxAttributes)
		}
		if err := s.attribute(h, m); err != nil {
			return err
		}
	}
}

func isAttribute(t itemType) bool {
	switch t {
	case itemXattr, itemACLUser, itemACLGroup, itemACLGroupObj, itemACLDefault,
		itemACLDefaultUser, itemACLDefaultGroup, itemFCaps, itemProjectID:
		return true
	}
	return false
}

func (s *scanner) attribute(h header, m *Metadata) error {
	switch h.typ {
	case itemXattr:
		return s.xattr(h, m)
	case itemFCaps:
		if m.FCaps != nil {
			return twice(h)
		}
		b, err := s.content(h)
		m.FCaps = append([]byte{}, b...)
		return err
	case itemProjectID:
		if m.ProjectID != 0 {
			return twice(h)
		}
		w, err := s.words(h)
		m.ProjectID = w[0]
		return err
	}
	return s.acl(h, &m.ACL)
}

func twice(h header) error { return malformed(h.at, "%v occurs twice in an entry", h.typ) }

func (s *scanner) xattr(h header, m *Metadata) error {
	b, err := s.content(h)
	if err != nil {
		return err
	}
	name, value, ok := bytes.Cut(b, []byte{0})
	x := Xattr{Name: string(name), Value: slices.Clone(value)}
	if !ok {
		return malformed(h.at, "extended attribute without NUL behind its name")
	}
	if err := x.check(); err != nil {
		return malformed(h.at, "%v", err)
	}
	m.Xattrs = append(m.Xattrs, x)
	return nil
}

func (s *scanner) acl(h header, a *ACL) error {
	w, err := s.words(h)
	if err != nil {
		return err
	}
	switch h.typ {
	case itemACLGroupObj:
		if a.GroupObj != nil {
			return twice(h)
		}
		a.GroupObj = &w[0]
		return nil
	case itemACLDefault:
		if a.Default != nil {
			return twice(h)
		}
		a.Default = &ACLDefault{UserObj: w[0], GroupObj: w[1], Other: w[2], Mask: w[3]}
		return nil
	}
	if w[0] > math.MaxUint32 {
		return malformed(h.at, "%v has the ID %d", h.typ, w[0])
	}
	list := map[itemType]*[]ACLEntry{
		itemACLUser: &a.Users, itemACLGroup: &a.Groups,
		itemACLDefaultUser: &a.DefaultUsers, itemACLDefaultGroup: &a.DefaultGroups,
	}[h.typ]
	*list = append(*list, ACLEntry{ID: uint32(w[0]), Perm: w[1]})
	return nil
}
