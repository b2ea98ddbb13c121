//go:build !386 && !arm && !mips && !mipsle

package mount

import (
	"encoding/binary"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// bestRead is the size in bytes in which programs had best read.
const bestRead = 1 << 20

// attributes fills in what stat shows.
func (f *fileSystem) attributes(n inode, a *fuse.Attr) {
	*a = fuse.Attr{Ino: n.id, Nlink: 1, Blksize: bestRead}
	sec, nsec := uint64(f.content.Time.Unix()), uint32(f.content.Time.Nanosecond())
	if n.node == nil {
		a.Mode = syscall.S_IFDIR | 0o555
		if n.part >= 0 {
			a.Mode = syscall.S_IFREG | 0o444
			a.Size = uint64(f.content.Parts[n.part].Size)
		}
	} else {
		m := &n.node.Metadata
		a.Mode, a.Uid, a.Gid = m.Mode, m.UID, m.GID
		sec, nsec = uint64(m.Mtime.Sec), m.Mtime.Nsec
		switch n.node.Kind {
		case pxar.File:
			a.Size = uint64(n.node.Size)
		case pxar.Symlink:
			a.Size = uint64(len(n.node.Target))
		case pxar.BlockDevice, pxar.CharDevice:
			a.Rdev = rdev(n.node.Device)
		}
	}
	a.Blocks = (a.Size + 511) / 512
	a.Atime, a.Mtime, a.Ctime = sec, sec, sec
	a.Atimensec, a.Mtimensec, a.Ctimensec = nsec, nsec, nsec
	// An archive does not count links; that there are more than one is known
	// once a second name was seen. Programs that copy ask for no more.
	if f.inodes.isLinked(n.id) {
		a.Nlink = 2
	}
}

// rdev encodes a device as FUSE carries it: the kernel's new_encode_dev, 12
// bits of major and 20 of minor number.
func rdev(d pxar.Device) uint32 {
	major, minor := uint32(d.Major)&0xfff, uint32(d.Minor)&0xfffff
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// GetXAttr answers the value of an extended attribute.
func (f *fileSystem) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n, ok := f.inodes.get(h.NodeId)
	if !ok {
		return 0, fuse.ENOENT
	}
	if n.node != nil {
		for _, x := range xattrs(&n.node.Metadata) {
			if x.Name == name {
				return fill(dest, x.Value)
			}
		}
	}
	return 0, fuse.ENODATA
}

// ListXAttr answers the names of the extended attributes, each with a NUL.
func (f *fileSystem) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, ok := f.inodes.get(h.NodeId)
	if !ok {
		return 0, fuse.ENOENT
	}
	var names strings.Builder
	if n.node != nil {
		for _, x := range xattrs(&n.node.Metadata) {
			names.WriteString(x.Name)
			names.WriteByte(0)
		}
	}
	return fill(dest, []byte(names.String()))
}

// fill copies value into dest, or says how much room it needs.
func fill(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// xattrs returns all extended attributes of an entry, also those that an
// archive keeps in items of their own: capabilities and access control lists.
func xattrs(m *pxar.Metadata) []pxar.Xattr {
	all := m.Xattrs[:len(m.Xattrs):len(m.Xattrs)]
	if m.FCaps != nil {
		all = append(all, pxar.Xattr{Name: "security.capability", Value: m.FCaps})
	}
	if acl := accessACL(m); acl != nil {
		all = append(all, pxar.Xattr{Name: "system.posix_acl_access", Value: acl})
	}
	if acl := defaultACL(&m.ACL); acl != nil {
		all = append(all, pxar.Xattr{Name: "system.posix_acl_default", Value: acl})
	}
	return all
}

// The entries of an access control list as Linux stores them
// (linux/posix_acl_xattr.h): version 2 in 32 bits, then tag and permissions in
// 16 bits each and an ID in 32, all little endian, sorted by tag and ID.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclNobody   = ^uint32(0)
)

type aclBytes []byte

func newACL() aclBytes { return binary.LittleEndian.AppendUint32(nil, aclVersion) }

func (b *aclBytes) add(tag uint16, perm uint64, id uint32) {
	if perm == pxar.NoPerm {
		return
	}
	*b = binary.LittleEndian.AppendUint16(*b, tag)
	*b = binary.LittleEndian.AppendUint16(*b, uint16(perm&7))
	*b = binary.LittleEndian.AppendUint32(*b, id)
}

func (b *aclBytes) addAll(tag uint16, list []pxar.ACLEntry) {
	for _, e := range list {
		b.add(tag, e.Perm, e.ID)
	}
}

// accessACL returns the access ACL, nil if the mode says it all. Where there is
// a mask, the group bits of the mode hold it.
func accessACL(m *pxar.Metadata) []byte {
	if m.ACL.GroupObj == nil && len(m.ACL.Users)+len(m.ACL.Groups) == 0 {
		return nil
	}
	b, mode := newACL(), uint64(m.Mode)
	group := mode >> 3 & 7
	if m.ACL.GroupObj != nil {
		group = *m.ACL.GroupObj
	}
	b.add(aclUserObj, mode>>6&7, aclNobody)
	b.addAll(aclUser, m.ACL.Users)
	b.add(aclGroupObj, group, aclNobody)
	b.addAll(aclGroup, m.ACL.Groups)
	b.add(aclMask, mode>>3&7, aclNobody)
	b.add(aclOther, mode&7, aclNobody)
	return b
}

// defaultACL returns the ACL that new files in a directory get, nil if none.
func defaultACL(a *pxar.ACL) []byte {
	if a.Default == nil {
		return nil
	}
	b := newACL()
	b.add(aclUserObj, a.Default.UserObj, aclNobody)
	b.addAll(aclUser, a.DefaultUsers)
	b.add(aclGroupObj, a.Default.GroupObj, aclNobody)
	b.addAll(aclGroup, a.DefaultGroups)
	b.add(aclMask, a.Default.Mask, aclNobody)
	b.add(aclOther, a.Default.Other, aclNobody)
	return b
}
