//go:build linux

package inode

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// The value of system.posix_acl_access and system.posix_acl_default
// (linux/posix_acl_xattr.h), little-endian: u32 version, then entries of u16
// tag, u16 permissions (r=4, w=2, x=1), u32 id.
const (
	XattrAccessACL  = "system.posix_acl_access"
	XattrDefaultACL = "system.posix_acl_default"

	aclVersion   = 2
	aclHeadSize  = 4
	aclEntrySize = 8
	aclNoID      = math.MaxUint32 // the id of entries that name nobody
)

// The tags, in the order in which the kernel wants them.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// A posixACL is the content of either attribute. The four permissions that
// may be missing are pxar.NoPerm then.
type posixACL struct {
	userObj, groupObj, mask, other uint64
	users, groups                  []pxar.ACLEntry
}

// parseACL reads the value of an attribute, and sorts what names somebody by
// id and permissions, which is the order of an archive.
func parseACL(value []byte) (posixACL, error) {
	a := posixACL{pxar.NoPerm, pxar.NoPerm, pxar.NoPerm, pxar.NoPerm, nil, nil}
	if len(value) < aclHeadSize || (len(value)-aclHeadSize)%aclEntrySize != 0 {
		return a, fmt.Errorf("an ACL of %d bytes cannot be", len(value))
	}
	if v := binary.LittleEndian.Uint32(value); v != aclVersion {
		return a, fmt.Errorf("an ACL of version %d is not known", v)
	}
	for e := value[aclHeadSize:]; len(e) > 0; e = e[aclEntrySize:] {
		tag, perm := binary.LittleEndian.Uint16(e), uint64(binary.LittleEndian.Uint16(e[2:]))
		id := binary.LittleEndian.Uint32(e[4:])
		switch tag {
		case aclUserObj:
			a.userObj = perm
		case aclUser:
			a.users = append(a.users, pxar.ACLEntry{ID: id, Perm: perm})
		case aclGroupObj:
			a.groupObj = perm
		case aclGroup:
			a.groups = append(a.groups, pxar.ACLEntry{ID: id, Perm: perm})
		case aclMask:
			a.mask = perm
		case aclOther:
			a.other = perm
		default:
			return a, fmt.Errorf("an ACL entry of tag %#x is not known", tag)
		}
	}
	slices.SortFunc(a.users, compareACL)
	slices.SortFunc(a.groups, compareACL)
	return a, nil
}

func compareACL(a, b pxar.ACLEntry) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Perm, b.Perm))
}

// value writes the attribute. Whoever made up an archive may have put
// anything into it, so numbers that do not fit are an error here; what else
// is wrong the kernel finds.
func (a posixACL) value() ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	var bad error
	add := func(tag uint16, id, perm uint64) {
		if perm > 7 || id > math.MaxUint32 {
			bad = fmt.Errorf("an ACL entry with permissions %#o for id %d cannot be", perm, id)
		}
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(perm))
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	object := func(tag uint16, perm uint64) {
		if perm != pxar.NoPerm {
			add(tag, aclNoID, perm)
		}
	}
	object(aclUserObj, a.userObj)
	for _, e := range a.users {
		add(aclUser, uint64(e.ID), e.Perm)
	}
	object(aclGroupObj, a.groupObj)
	for _, e := range a.groups {
		add(aclGroup, uint64(e.ID), e.Perm)
	}
	object(aclMask, a.mask)
	object(aclOther, a.other)
	return b, bad
}

// errNoMask goes with an ACL that names somebody but has no GROUP_OBJ: the
// group bits of the mode are then both the group's permissions and the mask.
var errNoMask = errors.New("the archived ACL has no permissions of the owning group; the mode's are used")

// accessACL puts the access ACL of m together. ok is false if m has none
// beyond its mode.
func accessACL(m *pxar.Metadata) (a posixACL, ok bool, warning error) {
	group := uint64(m.Mode >> 3 & 7)
	a = posixACL{uint64(m.Mode >> 6 & 7), group, group, uint64(m.Mode & 7), m.ACL.Users, m.ACL.Groups}
	switch {
	case m.ACL.GroupObj != nil:
		a.groupObj = *m.ACL.GroupObj
	case len(a.users)+len(a.groups) > 0:
		warning = errNoMask
	default:
		return a, false, nil
	}
	return a, true, warning
}
