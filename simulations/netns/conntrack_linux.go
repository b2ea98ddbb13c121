package netns

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// forget makes a router forget every connection, at once. The kernel does so by
// itself when the address of a masquerade goes, but some time later.
func (ns *namespace) forget() error {
	return ns.do(func() error {
		if err := flushConntrack(); err != nil {
			return fmt.Errorf("forget connections: %w", err)
		}
		return nil
	})
}

// flushConntrack sends the kernel the one netlink message that this takes, and
// reads its answer.
func flushConntrack() error {
	const (
		subsystem = 1                       // NFNL_SUBSYS_CTNETLINK
		remove    = 2                       // IPCTNL_MSG_CT_DELETE; without attributes it means all
		size      = unix.SizeofNlMsghdr + 4 // and the header of netfilter, all zero: any family
	)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m := make([]byte, size)
	binary.NativeEndian.PutUint32(m[0:], size)
	binary.NativeEndian.PutUint16(m[4:], subsystem<<8|remove)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer makes no sense")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
