package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Missing says what keeps this machine from having a lab, and the cure, or
// nothing if it can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "they need root; run the tests as root"
	}
	var packages []string
	for _, need := range []struct{ program, debian string }{{"ip", "iproute2"}, {"nft", "nftables"}} {
		if _, err := exec.LookPath(need.program); err != nil {
			packages = append(packages, need.debian)
		}
	}
	if packages != nil {
		return "programs are missing; run apt-get install " + strings.Join(packages, " ")
	}
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Sprintf("/dev/net/tun cannot be opened (%v); run modprobe tun, or give the container that device", err)
	}
	ns, err := newNamespace()
	if err != nil {
		return fmt.Sprintf("the kernel refuses (%v); the container needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	ns.close()
	return ""
}
