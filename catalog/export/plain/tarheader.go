package plain

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// Keywords of extended headers under which GNU tar and bsdtar, following star,
// keep what POSIX has no place for.
const (
	paxXattr      = "SCHILY.xattr."
	paxACLAccess  = "SCHILY.acl.access"
	paxACLDefault = "SCHILY.acl.default"
	xattrFCaps    = "security.capability"
)

var tarTypes = map[pxar.Kind]byte{
	pxar.Dir: tar.TypeDir, pxar.File: tar.TypeReg, pxar.Symlink: tar.TypeSymlink, pxar.Hardlink: tar.TypeLink,
	pxar.BlockDevice: tar.TypeBlock, pxar.CharDevice: tar.TypeChar, pxar.Fifo: tar.TypeFifo,
}

// tarHeader describes an entry in the pax format (POSIX.1-2001), in which
// names may have any length and bytes, and times have nanoseconds. Users and
// groups are numbers. A hard link has no metadata but those of its target.
func tarHeader(e *pxar.Entry, name string) (*tar.Header, error) {
	kind, ok := tarTypes[e.Kind]
	if !ok {
		return nil, fmt.Errorf("tar has no way to keep a %v", e.Kind)
	}
	h := &tar.Header{
		Typeflag: kind, Name: name, Format: tar.FormatPAX,
		Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.Mtime.Time(),
		PAXRecords: map[string]string{},
	}
	switch {
	case e.Kind == pxar.Dir:
		h.Name += "/"
	case e.Kind == pxar.File:
		h.Size = e.Size
	case e.Kind == pxar.Symlink:
		h.Linkname = e.Target
	case e.Kind.IsDevice():
		if max(e.Device.Major, e.Device.Minor) > math.MaxInt32 {
			return nil, fmt.Errorf("device %d:%d has no place in tar", e.Device.Major, e.Device.Minor)
		}
		h.Devmajor, h.Devminor = int64(e.Device.Major), int64(e.Device.Minor)
	}
	for _, x := range e.Xattrs {
		h.PAXRecords[paxXattr+xattrKeyword.Replace(x.Name)] = string(x.Value)
	}
	if e.FCaps != nil {
		h.PAXRecords[paxXattr+xattrFCaps] = string(e.FCaps)
	}
	addACL(h.PAXRecords, &e.Metadata)
	return h, nil
}

// xattrKeyword writes the names of attributes as GNU tar does: a keyword ends
// at the first "=".
var xattrKeyword = strings.NewReplacer("%", "%25", "=", "%3D")

// addACL adds the text forms of the lists that m has (acl(5), long form).
func addACL(records map[string]string, m *pxar.Metadata) {
	user, group, other := uint64(m.Mode>>6&7), uint64(m.Mode>>3&7), uint64(m.Mode&7)
	a := &m.ACL
	if a.GroupObj != nil || len(a.Users)+len(a.Groups) > 0 {
		// With a mask, the group bits of the mode are the mask.
		base := pxar.ACLDefault{UserObj: user, GroupObj: group, Other: other, Mask: group}
		if a.GroupObj != nil {
			base.GroupObj = *a.GroupObj
		}
		records[paxACLAccess] = aclText(base, a.Users, a.Groups)
	}
	if a.Default != nil {
		records[paxACLDefault] = aclText(*a.Default, a.DefaultUsers, a.DefaultGroups)
	}
}

// aclText writes a list as "user::rwx", "user:1000:r--", …, one on each line.
func aclText(base pxar.ACLDefault, users, groups []pxar.ACLEntry) string {
	var b strings.Builder
	line := func(tag, id string, perm uint64) {
		if perm != pxar.NoPerm {
			b.WriteString(tag + ":" + id + ":" + permText(perm) + "\n")
		}
	}
	line("user", "", base.UserObj)
	for _, e := range users {
		line("user", fmt.Sprint(e.ID), e.Perm)
	}
	line("group", "", base.GroupObj)
	for _, e := range groups {
		line("group", fmt.Sprint(e.ID), e.Perm)
	}
	line("mask", "", base.Mask)
	line("other", "", base.Other)
	return b.String()
}

func permText(perm uint64) string {
	text := []byte("---")
	for i, bit := range []uint64{4, 2, 1} {
		if perm&bit != 0 {
			text[i] = "rwx"[i]
		}
	}
	return string(text)
}
